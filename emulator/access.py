"""Who may do what: every management call is held against the roles of its caller, as ARM holds it.

The action is read off the address, as ARM names its operations: PUT …/onlineEndpoints/x is
Microsoft.MachineLearningServices/workspaces/onlineEndpoints/write on that endpoint. Whoever puts a user-assigned
identity on something needs the right to assign it too. The emulator's own client owns the subscription and is never
refused, and neither is what anybody may ask: which subscriptions there are, how a running operation gets on, what one
may do oneself.
"""

from __future__ import annotations

import json
import re

from emulator.errors import ArmError
from emulator.identity import object_id
from emulator.roles import may, refuse
from emulator.routing import Call

VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete", "POST": "action"}
RESOURCES = "Microsoft.Resources/subscriptions"
OPEN = re.compile(
    r"/?|/subscriptions/?|/subscriptions/[^/]+/resources/?|/tenants/?|/metadata/.*|.*/permissions/?|.*/(mfeOperationsStatus|mfeOperationResults|operationStatuses)/.*",
    re.IGNORECASE,
)
TRACKING = re.compile(r"/(mlflow|history|artifact)/", re.IGNORECASE)
READS = re.compile(r".*/(search|get-\w+|rundata)/?", re.IGNORECASE)  # what is only read, though by POST
RUNS = "Microsoft.MachineLearningServices/workspaces/experiments/runs"
ASSIGN = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"


def operation(method: str, path: str) -> tuple[str, str]:
    """(action, scope) of a management call."""
    verb, (above, found, rest) = VERBS[method], _split(path)
    parts = [part for part in rest.split("/") if part]
    if not found:
        return _of_resources(verb, method, path, parts)
    action = ""
    if method == "POST" and len(parts) % 2 == 1:
        parts, action = parts[:-1], parts[-1]
    types, names = parts[::2], parts[1::2]
    complete = len(types) == len(names)  # else it is a collection, listed on what is above it
    inner = "".join(f"/{kind}/{name}" for kind, name in zip(types, names, strict=False))
    scope = f"{above}/providers/{found}{inner}" if complete or names else above
    if not names or types[0].lower() == "locations":  # a provider or a region is no resource: what is above it counts
        scope = above
    return "/".join([found, *types, *([action] if action else []), verb]), scope or "/"


def _split(path: str) -> tuple[str, str, str]:
    """What is before the last /providers/, the provider's name, and what follows; without one ("", "", path)."""
    head, mark, tail = path.rstrip("/").rpartition("/providers/")
    if not mark:
        return "", "", path
    provider, _, rest = tail.partition("/")
    return head, provider, rest


def _of_resources(verb: str, method: str, path: str, parts: list[str]) -> tuple[str, str]:
    """Subscriptions, groups and what is listed of them: Microsoft.Resources answers."""
    if len(parts) <= 2:
        return f"{RESOURCES}/{verb}", path.rstrip("/")
    sub = "/".join(["", *parts[:2]])
    if parts[2].lower() == "resourcegroups" and len(parts) >= 4:
        group = "/".join(["", *parts[:4]])
        more = "/resources" if len(parts) > 4 else ""
        return f"{RESOURCES}/resourceGroups{more}/{verb}", group
    kind = {"resourcegroups": "resourceGroups", "providers": "providers"}.get(parts[2].lower(), parts[2])
    return f"{RESOURCES}/{kind}/{'read' if method == 'GET' else verb}", sub


def check(call: Call) -> None:
    """ArmError 403 unless the caller has a role for this call."""
    settings = call.emulator.settings
    if OPEN.fullmatch(call.path) or str(call.claims.get("oid")) == object_id(settings.client_id):
        return
    action, scope = operation(call.method, call.path)
    if not may(call, action, scope):
        raise refuse(call, action, scope)
    if call.method in ("PUT", "PATCH"):
        _check_linked(call, action, scope)


def check_tracking(call: Call) -> None:
    """ArmError 403 unless the caller may read, or write, runs with their metrics and artifacts.

    A job brings the token of its run, which is the service's own and not one of the job's identity.
    """
    if TRACKING.match(call.path) and "wsid" in call.args:
        reading = call.method in ("GET", "HEAD") or READS.fullmatch(call.path)
        action = f"{RUNS}/{'read' if reading else 'write'}"
        if not may(call, action, call.args["wsid"]):
            raise refuse(call, action, call.args["wsid"])


def _check_linked(call: Call, action: str, scope: str) -> None:
    """ArmError 403 when the body puts on an identity that the caller may not assign."""
    try:
        identity = json.loads(call.body).get("identity") or {}
    except (ValueError, AttributeError):
        return  # the handler says what is wrong with it
    linked = [name for name in identity.get("userAssignedIdentities") or {} if not may(call, ASSIGN, name)]
    if linked:
        client, who = call.claims.get("appid", ""), call.claims.get("oid", "")
        message = (
            f"The client '{client}' with object id '{who}' has permission to perform action '{action}' on scope "
            f"'{scope}'; however, it does not have permission to perform action(s) '{ASSIGN}' on the linked scope(s) "
            f"'{','.join(linked)}' (respectively) or the linked scope(s) are invalid."
        )
        raise ArmError(403, "LinkedAuthorizationFailed", message)
