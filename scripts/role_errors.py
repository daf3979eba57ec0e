"""Azure's refusals for the want of a role as one sentence each: which role, on what, and how it is given.

Azure names the action that was refused. Which role holds it is looked up in the data that roles are given from
(`.github/environments.yaml`, `scripts/provision/workloads.yaml`), so the advice is what `provision` would do.
"""

import os
import re
from collections.abc import Mapping
from functools import cache

from scripts.errors import InvalidInput

REFUSED = re.compile(
    r"does not have (?:authorization|permission) to perform action(?:\(s\))? '(?P<action>[^']{1,200})' "
    r"(?:over scope|on the linked scope\(s\)) '(?P<scope>[^',]{1,500})"
)
CLIENT = re.compile(r"client '(?P<client>[^']{1,100})'")
PROVISION = "an Owner runs `python -m scripts provision`"
GITHUB = f"{PROVISION[:-1]} --repository OWNER/NAME`"
STORAGE_ACCOUNT, REGISTRY = "the workspace's storage account", "the workspace's container registry"
# What Azure says when a workload's identity lacks a role: it starts nothing, and names no action.
WORKLOADS = (
    (r"does not have pull permission on the registry", f"the endpoint's identity lacks the role AcrPull on {REGISTRY}"),
    (
        r"Startup task failed due to authorization error",
        "the endpoint's identity may not read the model: it lacks the role Storage Blob Data Reader on "
        f"{STORAGE_ACCOUNT}",
    ),
    (
        r"incorrect role assignments on storage account",
        "the endpoint's identity may not write what the deployment collects: it lacks the role Storage Blob Data "
        f"Contributor on {STORAGE_ACCOUNT}",
    ),
    (
        r"the compute could not authenticate with the Docker registry",
        f"the cluster's identity lacks the role AcrPull on {REGISTRY}",
    ),
    (
        r"StreamAccess\.Authentication|StreamError\(PermissionDenied",
        "the cluster's identity may not read the data or write outputs: it lacks the role Storage Blob Data "
        f"Contributor on {STORAGE_ACCOUNT}",
    ),
)
STORAGE = "AuthorizationPermissionMismatch"  # of a request for a blob, by whoever we are
# What the built-in roles of the data allow, as far as it tells one from another; the narrowest first.
BUILT_IN: dict[str, tuple[str, ...]] = {
    "Managed Identity Operator": ("Microsoft.ManagedIdentity/userAssignedIdentities/assign/action",),
    "AzureML Data Scientist": ("Microsoft.MachineLearningServices/workspaces/*/*",),
    "Log Analytics Reader": ("Microsoft.OperationalInsights/*",),
    "Monitoring Reader": ("Microsoft.Insights/*/read",),
    "Contributor": ("*",),
}
WHOLE = "the subscription"
RIGHTS = "Microsoft.Authorization/"
SUBSCRIPTION = re.compile(r"/subscriptions/[^/]+/?")


def explain(text: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """The sentence (without a full stop) for a refusal over a role in `text`; None when it is something else."""
    for pattern, said in WORKLOADS:
        if re.search(pattern, text):
            return f"{said}: {PROVISION}"
    if STORAGE in text:
        return _storage(environment.get("MLOPS_GITHUB_ENVIRONMENT", ""))
    found = REFUSED.search(" ".join(text.split()))
    if not found:
        return None
    client = CLIENT.search(text)
    who = f"client {client['client']}" if client else "this identity"
    return _advice(who, found["action"], _short(found["scope"]), environment.get("MLOPS_GITHUB_ENVIRONMENT", ""))


def _advice(who: str, action: str, scope: str, environment: str) -> str:
    if action.lower().startswith(RIGHTS.lower()) and not action.lower().endswith("/read"):
        return f"{who} may not give roles on {scope} ({action}): run this as an Owner of the subscription"
    holders = _holders(action, wide=scope == WHOLE)  # a role on less than it would not help
    if environment in holders:
        role, where = holders[environment]
        return f"{who} lacks the role {role} on the {where} (for {action} on {scope}): {GITHUB}"
    if environment and holders:
        others = " or ".join(f"{name} ({role})" for name, (role, _) in holders.items())
        return (
            f"{who} may not do {action} on {scope}, and the GitHub environment {environment} has no role for it: "
            f"run this as {others}"
        )
    role = next(iter(holders.values()))[0] if holders else "one that allows it"
    return f"{who} may not do {action} on {scope}: give it the role {role} there, or run this as somebody who has it"


def _storage(environment: str) -> str:
    """Blobs are refused without a word on who asked for what; the roles on them are all on the storage account."""
    role, where = "Storage Blob Data Contributor", "storage account of the workspace"
    who = f"the identity of the GitHub environment {environment}" if environment else "this identity"
    how = GITHUB if environment else "give it that role there, or run this as somebody who has it"
    return f"{who} lacks the role {role} on the {where}: {how}"


@cache
def _holders(action: str, *, wide: bool) -> dict[str, tuple[str, str]]:
    """Of each GitHub environment whose identity should be allowed this: the role that does it, and its scope."""
    from scripts.github import environments

    try:
        side = environments.load()
    except InvalidInput:  # run from elsewhere: the refusal is still told, without the name of a role
        return {}
    found: dict[str, tuple[str, str]] = {}
    for each in side.environments:
        for role in each.azure.roles if each.azure else []:
            actions = role.actions or BUILT_IN.get(role.name, ())
            if (role.scope == "subscription" or not wide) and any(covers(one, action) for one in actions):
                found.setdefault(each.name, (role.name, role.scope))
    return found


def covers(pattern: str, action: str) -> bool:
    """Whether a role's action, in which * stands for anything, is or holds an action."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), action, re.IGNORECASE) is not None


def _short(scope: str) -> str:
    """An ARM id as people say it: the kind and the name of the last thing in it."""
    if SUBSCRIPTION.fullmatch(scope):
        return WHOLE
    kind, name = scope.rstrip("/").split("/")[-2:]
    return f"{kind}/{name}"
