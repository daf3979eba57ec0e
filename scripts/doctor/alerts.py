"""Is anybody told when something goes wrong?"""

from typing import Any

from scripts import azure_ml
from scripts.doctor.context import Context, Skip
from scripts.errors import Refused

RUN = "run `python -m scripts provision`"
# Of an action group: every kind of receiver, by the names that the SDK has for their lists.
RECEIVERS = ("email", "sms", "webhook", "itsm", "azure_app_push", "automation_runbook", "voice", "logic_app")
MORE_RECEIVERS = ("azure_function", "arm_role", "event_hub")


def check(context: Context) -> str:
    """Raises Refused when an alert is missing, or no one would hear of it; Skip for whoever may not see them."""
    from scripts.provision import Resource, alerts

    with azure_ml.explained("Looking at the alerts"):
        wanted = alerts.resources(context.place)
        states = dict(zip((each.name for each in wanted), context.each(Resource.state, wanted), strict=True))
        if "hidden" in states.values():
            raise Skip("not checked: this identity may not see the alerts")
        wrong = [name for name, state in states.items() if state != "exists"]
        if wrong:
            raise Refused(f"missing or not as the settings say: {', '.join(wrong)}: {RUN}.")
        group, *found = context.each(Resource.found, wanted)
    told = _told(group)
    if not told:
        raise Refused(f"nobody is told when an alert fires: write `alert_emails` into the settings file and {RUN}.")
    off = [name for name, one in zip(list(states)[1:], found, strict=True) if not getattr(one, "enabled", True)]
    said = f"{len(found)} alerts tell {told} receiver{'s' if told > 1 else ''}"
    return f"{said}; switched off by somebody: {', '.join(off)}" if off else said


def _told(group: Any) -> int:
    """How many hear of an alert. Who unsubscribed is there, and does not."""
    if not getattr(group, "enabled", True):
        return 0
    every = [each for kind in (*RECEIVERS, *MORE_RECEIVERS) for each in getattr(group, f"{kind}_receivers", None) or []]
    return sum(str(getattr(each, "status", None) or "Enabled") == "Enabled" for each in every)
