"""The table of checks, and running them: each check returns what it found or raises the one sentence that helps.

Checks wait for Azure most of the time, so they run side by side; each begins when what it needs has ended.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from scripts import records
from scripts.doctor import (
    alerts,
    azure,
    content_filter,
    files,
    github,
    names,
    quota,
    roles,
    serverless,
    sizes,
    variables,
)
from scripts.doctor.context import Context, Skip
from scripts.errors import InvalidInput, ScriptError

Outcome = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """`run` returns what it found in words. `needs` are checks without which this one cannot tell anything."""

    name: str
    run: Callable[[Context], str]
    needs: tuple[str, ...] = ()


CHECKS = (
    Check("variables", variables.check),
    Check("settings", names.settings, ("variables",)),
    Check("names", names.check, ("settings",)),
    Check("files", files.check, ("settings",)),
    Check("sizes", sizes.check, ("settings",)),
    Check("content-filter", content_filter.check, ("settings",)),
    Check("sign-in", azure.sign_in, ("variables",)),
    Check("resources", azure.resources, ("settings", "sign-in")),
    Check("alerts", alerts.check, ("settings", "sign-in", "resources")),
    Check("roles", roles.check, ("settings", "sign-in", "resources")),
    Check("credentials", roles.credentials, ("settings", "sign-in", "resources")),
    Check("region", quota.region, ("settings", "sign-in")),
    Check("quota", quota.check, ("settings", "sign-in", "region")),
    Check("github", github.check),
)

# Only with --recipe: what a managed route needs besides.
ROUTE = Check("route", serverless.check, ("settings", "sign-in"))


class Finding(records.Part):
    check: str
    outcome: Outcome
    said: str


class Doctor(records.Record):
    """`doctor.json`: what was checked and what to do."""

    healthy: bool
    findings: list[Finding]


def chosen(only: Sequence[str]) -> list[Check]:
    """The checks to run: all, or those named with what they need. Raises InvalidInput for an unknown name."""
    known = {check.name: check for check in CHECKS}
    if unknown := [name for name in only if name not in known]:
        raise InvalidInput(f"--only takes {', '.join(known)}, not {unknown[0]!r}.")
    wanted = set(only) or set(known)
    for check in reversed(CHECKS):  # each comes after what it needs
        if check.name in wanted:
            wanted |= set(check.needs)
    return [check for check in CHECKS if check.name in wanted]


def examine(context: Context, only: Sequence[str] = (), tell: Callable[[Finding], None] = lambda _: None) -> Doctor:
    """Run the checks; what needs a check that failed is skipped, because it would only repeat it. Told in order."""
    checks = chosen(only)
    if context.recipe:
        checks = [*chosen([*only, *ROUTE.needs] if only else []), ROUTE]
    running: dict[str, Future[_Seen]] = {}
    findings = []
    with ThreadPoolExecutor(len(checks)) as pool:
        for check in checks:  # each comes after what it needs
            running[check.name] = pool.submit(_after, check, context, [running[name] for name in check.needs])
        for check in checks:
            finding = running[check.name].result().finding
            tell(finding)
            findings.append(finding)
    return Doctor(healthy=all(each.outcome != "failed" for each in findings), findings=findings)


@dataclass(frozen=True)
class _Seen:
    """`usable`: what needs this check can tell something."""

    finding: Finding
    usable: bool


def _after(check: Check, context: Context, needs: "list[Future[_Seen]]") -> _Seen:
    blocked = next((each.finding.check for each in (need.result() for need in needs) if not each.usable), None)
    if blocked:
        said = f"not checked, because {blocked} failed"
        return _Seen(Finding(check=check.name, outcome="skipped", said=said), usable=False)
    finding = _run(check, context)
    return _Seen(finding, usable=finding.outcome != "failed")


def _run(check: Check, context: Context) -> Finding:
    try:
        return Finding(check=check.name, outcome="ok", said=check.run(context))
    except Skip as skip:
        return Finding(check=check.name, outcome="skipped", said=str(skip))
    except ScriptError as error:
        return Finding(check=check.name, outcome="failed", said=str(error))
