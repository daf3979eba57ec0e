"""Who may do what with blobs: an Entra token opens what its owner's roles on the storage account allow.

Blobs are Azurite's, which takes any token. So it puts each request that carries one to us first, without its body
(blob_access.js), and goes on when we answer 204. A key or a SAS carries its own right and is not asked about.
https://learn.microsoft.com/rest/api/storageservices/authorize-with-azure-active-directory
"""

from __future__ import annotations

import uuid

from starlette.responses import Response

from emulator.rbac import BLOBS
from emulator.resources import utc_now
from emulator.roles import may
from emulator.routing import Call, route

HOST = r"(?P<account>[a-z0-9]+)\.blob\.core\.windows\.net"
VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "DELETE": "delete", "POST": "write"}
DENIED = (
    403,
    "AuthorizationPermissionMismatch",
    "This request is not authorized to perform this operation using this permission.",
)


def operation(method: str, path: str, query: dict[str, str]) -> tuple[str, bool]:
    """(action, whether it is on data) of a blob request. What is in a container, its list too, is data."""
    parts = [part for part in path.split("/") if part]
    if query.get("comp") == "userdelegationkey":
        return f"{BLOBS}/generateUserDelegationKey/action", False
    if len(parts) > 1 or (parts and query.get("comp") == "list"):
        return f"{BLOBS}/containers/blobs/{VERBS[method]}", True
    return f"{BLOBS}/containers/{VERBS[method]}", False


@route("GET|HEAD|PUT|DELETE|POST", HOST, r"/.*", audience="storage")
def ask(call: Call) -> Response:
    """204: go on. Else the answer that Azure gives, in XML."""
    action, data = operation(call.method, call.path, call.query)
    # Before there is a workspace there is no account that a role could be on.
    if any(may(call, action, scope, data=data) for scope in storage_accounts(call) or ["/"]):
        return Response(status_code=204)
    status, code, message = DENIED
    text = f"{message}\nRequestId:{uuid.uuid4()}\nTime:{utc_now()}"
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{text}</Message></Error>'
    return Response(body, status, {"x-ms-error-code": code}, media_type="application/xml")


def storage_accounts(call: Call) -> list[str]:
    """ARM ids of the one account: each workspace says that its own is it."""
    return [each["properties"]["storageAccount"] for each in call.emulator.store.find(r".*/workspaces/[^/]+")]
