"""What the caller may do on a resource: the permissions of each of its roles there (azure-mgmt-authorization)."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from emulator.identity import object_id
from emulator.rbac import Permissions
from emulator.roles import held
from emulator.routing import ARM, Call, route


@route("GET", ARM, r"(?P<scope>/subscriptions/(?P<sub>[^/]+).*)/providers/Microsoft\.Authorization/permissions")
def permissions(call: Call) -> Response:
    who = str(call.claims.get("oid", ""))
    scope = call.args["scope"].replace("//", "/")
    own = who.lower() == object_id(call.emulator.settings.client_id).lower()
    roles = [Permissions(("*",))] if own else list(held(call.emulator.store, who, scope))
    shown = [
        {
            "actions": list(each.actions),
            "notActions": list(each.but),
            "dataActions": list(each.data),
            "notDataActions": [],
        }
        for each in roles
    ]
    return JSONResponse({"value": shown, "nextLink": None})
