"""Azure's sign-in errors as one sentence each: which setting is wrong and where it is mended.

Entra ID answers with a page of text around a code (AADSTS700213). The code is the contract; the words around it are
not, so only the presented subject is read out of them.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

CODE = re.compile(r"AADSTS(\d+)")
PRESENTED = re.compile(r"assertion subject '([^'\s]{1,300})'")
CREDENTIALS = "the federated credentials of its identity in Azure"


@dataclass(frozen=True)
class SignInError:
    """What an AADSTS code means here. `mend` may hold {subject}, {tenant}, {client}, {expected}."""

    what: str
    mend: str


ERRORS = {
    "90002": SignInError(
        "tenant {tenant} does not exist",
        "set the variable AZURE_TENANT_ID to the directory (tenant) id that Entra ID shows",
    ),
    "900023": SignInError(
        "{tenant} is not a tenant's id",
        "set the variable AZURE_TENANT_ID to the directory (tenant) id that Entra ID shows",
    ),
    "700016": SignInError(
        "client {client} is not in tenant {tenant}",
        "set the variable AZURE_CLIENT_ID to the client id of this environment's identity, "
        "or AZURE_TENANT_ID to its tenant",
    ),
    "700213": SignInError(
        "no federated credential of client {client} is for subject {subject}",
        f"add that subject to {CREDENTIALS}{{expected}}",
    ),
    "700024": SignInError(
        "the job's sign-in token has expired",
        "run the job again; a step that waits longer than the token lives must sign in anew before it acts",
    ),
    "700211": SignInError(
        "no federated credential of client {client} trusts the issuer of this token",
        f"set the issuer to https://token.actions.githubusercontent.com in {CREDENTIALS}",
    ),
    "700212": SignInError(
        "no federated credential of client {client} is for the audience of this token",
        f"set the audience to api://AzureADTokenExchange in {CREDENTIALS}",
    ),
    "70025": SignInError(
        "client {client} has no federated credential",
        "`python -m scripts provision --repository OWNER/NAME` creates it",
    ),
    "700027": SignInError(
        "the signature of the sign-in token does not hold",
        "run the job again, and check the issuer in " + CREDENTIALS,
    ),
}
# Where each variable lives in GitHub: two are the same for the whole repository, one is the identity of an environment.
IN_ENVIRONMENT = ("AZURE_CLIENT_ID",)
NOBODY = "nobody is signed in: in a workflow give the job `permissions: id-token: write`, on a desk run `az login`"


def explain(text: str, environment: Mapping[str, str] = os.environ, expected: str = "") -> str | None:
    """The sentence (without a full stop) for the first known code in an error's `text`; None when there is none.

    `expected` is the subject that the job's GitHub environment should present, when the caller knows it.
    """
    code = next((code for code in CODE.findall(text) if code in ERRORS), None)
    if code is None:
        if "failed to retrieve a token" not in text or CODE.search(text):
            return None
        missing = [name for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID") if not environment.get(name)]
        in_github = environment.get("GITHUB_ACTIONS") == "true"
        return where_to_set(missing[0], environment) if missing and in_github else NOBODY
    presented = PRESENTED.search(text)
    subject = presented.group(1) if presented else "(not told)"
    error = ERRORS[code]
    values = {
        "subject": subject,
        "tenant": environment.get("AZURE_TENANT_ID") or "(AZURE_TENANT_ID is not set)",
        "client": environment.get("AZURE_CLIENT_ID") or "(AZURE_CLIENT_ID is not set)",
        "expected": _hint(subject, expected or _expected(environment)),
    }
    return f"AADSTS{code}: {error.what.format(**values)}; {error.mend.format(**values)}"


def where_to_set(name: str, environment: Mapping[str, str] = os.environ, github_environment: str = "") -> str:
    """One sentence (without a full stop) about a variable that is not set: what to set, and where."""
    if environment.get("GITHUB_ACTIONS") != "true":
        return f"{name} is not set: sign in to Azure first and export {name}"
    if name in IN_ENVIRONMENT:
        which = github_environment or "the environment that this job names"
        return f"{name} is not set: add it in GitHub under Settings → Environments → {which} → Environment variables"
    return f"{name} is not set: add it in GitHub under Settings → Secrets and variables → Actions → Variables"


def _expected(environment: Mapping[str, str]) -> str:
    repository = environment.get("GITHUB_REPOSITORY", "")
    return f"repo:{repository}:environment:NAME" if repository else ""


def _hint(subject: str, expected: str) -> str:
    """A subject without an environment comes from a job that names none: then Azure is right and the job is wrong."""
    if ":environment:" not in subject:
        wanted = f" to present {expected}" if expected else ""
        return f", or give the job its `environment:`{wanted}"
    if expected and "NAME" not in expected and expected != subject:
        return f" (expected here: {expected})"
    return ""
