"""Log Analytics: the table AmlOnlineEndpointTrafficLog, for the one shape of query that a rollout sends.

There is one workspace, WORKSPACE, and every endpoint's requests are in it, as if a diagnostic setting sent them there.
Mirrored copies are not: nothing is documented of them in this table.
https://learn.microsoft.com/rest/api/loganalytics/query/execute
"""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import UTC, datetime

from starlette.responses import JSONResponse, Response

from emulator.errors import ArmError
from emulator.monitor import instant, need_reader, visible_until
from emulator.routing import Call, route
from emulator.runtime import runtime_of

HOST = r"api\.loganalytics\.(?:io|azure\.com)"
WORKSPACE = "44444444-4444-4444-4444-444444444444"
RESOURCE = "resourceGroups/rg-monitoring/providers/Microsoft.OperationalInsights/workspaces/log-all"
QUERY = re.compile(
    r"AmlOnlineEndpointTrafficLog"
    r" \| where TimeGenerated >= datetime\((?P<start>[^)]+)\) and TimeGenerated < datetime\((?P<end>[^)]+)\)"
    r" \| where AzureMLWorkspaceName =~ '(?P<ws>[\w.-]+)' and EndpointName =~ '(?P<endpoint>[\w.-]+)'"
    r" and DeploymentName in~ \((?P<names>'[\w.-]+'(?:, '[\w.-]+')*)\)"
    r" \| summarize Requests = count\(\)(?:, Slow = countif\(TotalDurationMs > (?P<slow>[0-9.]+)\))?"
    r" by DeploymentName, ResponseCode, Minute = bin\(TimeGenerated, 1m\)"
)
COLUMNS = {
    "DeploymentName": "string",
    "ResponseCode": "int",
    "Minute": "datetime",
    "Requests": "long",
    "Slow": "long",
}


def resource_id(call: Call) -> str:
    """Where the one workspace is, for roles and diagnostic settings."""
    return f"/subscriptions/{call.emulator.settings.subscription_id}/{RESOURCE}"


@route("POST", HOST, r"/v1/workspaces/(?P<log>[^/]+)/query", audience="logs")
def query(call: Call) -> Response:
    log = call.args["log"].lower()
    need_reader(call, "Microsoft.OperationalInsights/workspaces/query/read", resource_id(call))
    if log != WORKSPACE:
        raise ArmError(404, "WorkspaceNotFoundError", f"The workspace '{log}' could not be found.")
    text = str(call.json().get("query", ""))
    asked = QUERY.fullmatch(" ".join(text.split()))
    if asked is None:
        raise ArmError(
            400, "BadArgumentError", f"The local Azure ML answers a rollout's query alone, not: {text[:200]}"
        )
    start, end = instant(asked["start"]).timestamp(), instant(asked["end"]).timestamp()
    slow = float(asked["slow"]) if asked["slow"] else float("inf")
    names = set(re.findall(r"'([^']+)'", asked["names"].lower()))
    pattern = rf".*/workspaces/{re.escape(asked['ws'])}/onlineEndpoints/{re.escape(asked['endpoint'])}"
    found: dict[tuple[str, int, str], list[int]] = defaultdict(lambda: [0, 0])
    for endpoint in call.emulator.store.find(pattern):
        traffic = runtime_of(call.emulator).traffic
        for tally in traffic.tallies(endpoint["id"], start, min(end, visible_until()), slow):
            if tally.deployment in names and not tally.mirrored:
                counts = found[tally.deployment, tally.status, _stamp(tally.minute)]
                counts[0] += tally.requests
                counts[1] += tally.slow
    shown = list(COLUMNS) if asked["slow"] else list(COLUMNS)[:-1]
    rows = [[*key, *counts][: len(shown)] for key, counts in found.items()]
    columns = [{"name": name, "type": COLUMNS[name]} for name in shown]
    return JSONResponse({"tables": [{"name": "PrimaryResult", "columns": columns, "rows": rows}]})


def _stamp(minute: int) -> str:
    return f"{datetime.fromtimestamp(minute * 60, UTC):%Y-%m-%dT%H:%M:%SZ}"
