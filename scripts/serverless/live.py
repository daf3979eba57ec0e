"""Which serverless endpoint an application is led to: a record in the workspace's storage, and its way back.

There is nothing between users and an endpoint that could share traffic out, so there are no steps: evidence before the
switch (the gate's verdict, probes of both endpoints side by side), one switch, and the same way back. Each write names
the version that it replaces (If-Match), so of two switches only one happens.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from scripts import records
from scripts.errors import AzureFailed, InvalidInput, Refused, Undecided
from scripts.rollout import preflight
from scripts.rollout.approval import Approval, check_approval, check_pass
from scripts.rollout.policy import Policy
from scripts.rollout.words import runner
from scripts.serverless import endpoints
from scripts.serverless.record import Live, Side, read, write
from scripts.settings import Settings

if TYPE_CHECKING:
    from eval.verdict import Verdict

__all__ = ["begin", "read", "roll_back", "switch", "write"]


def begin(settings: Settings, model: records.Model) -> None:
    """The first release: nobody is led anywhere yet, so there is nothing to compare with. Raises Refused otherwise."""
    found, _ = read(settings)
    if found:
        raise Refused(f"--first is for an application that is led nowhere, and {settings.endpoint} is led to one.")
    name, uri = endpoints.need(settings, model)
    write(settings, _moved(settings, None, Side(endpoint=name, uri=uri, model=model), "first release"), None)


def switch(
    settings: Settings,
    verdict: "Verdict",
    model: records.Model,
    policy: Policy,
    approval: Approval | None,
    sample: Sequence[dict[str, Any]],
) -> records.Rollout:
    """Lead the application to the candidate's endpoint, and back at once when it does not answer there.

    Raises Refused for a verdict that is not about these two models or too old, an approval that is missing or of
    something else, and probes that fail; Undecided when nobody has approved yet.
    """
    check_pass(verdict)
    started, (before, etag) = records.now(), read(settings)
    if before and before.verdict_digest == verdict.digest and before.live.model.digest == model.digest:
        stable = before.previous.endpoint if before.previous else ""
        return _told(before, before.live.endpoint, stable, "PROMOTED", before.reason, started, {})
    _check_models(verdict, model, before)
    preflight.fresh(verdict, policy, started)
    if policy.approval.required and approval is None:
        raise Undecided("The switch waits for an approval: `python -m scripts rollout approve`, then --approval FILE.")
    if approval:
        check_approval(approval, verdict, policy, started)
    name, uri = endpoints.need(settings, model)
    asked = {
        each: endpoints.probe(settings, each, sample) for each in ([before.live.endpoint] if before else []) + [name]
    }
    stable = before.live.endpoint if before else ""
    allowed = asked[stable].failures if stable else 0
    if asked[name].failures > allowed or not asked[name].requests:
        raise Refused(
            f"{name} failed {asked[name].failures} of {asked[name].requests} probes, "
            f"{stable or 'nobody'} {allowed}: nothing was switched."
        )
    side = Side(endpoint=name, uri=uri, model=model)
    record = _moved(settings, before, side, verdict.reason, verdict.digest, approval.approved_by if approval else None)
    written = write(settings, record, etag)
    failed = _answers_where_it_leads(settings, record, sample)
    if not failed:
        return _told(record, name, stable, "PROMOTED", verdict.reason, started, asked)
    if before is None:
        raise AzureFailed(f"{name} is live and does not answer, and there was nobody before it: {failed}.")
    back = _moved(settings, record, before.live, f"taken back: {failed}")
    write(settings, back, written)
    return _told(back, name, stable, "ROLLED_BACK", failed, started, asked)


def _check_models(verdict: "Verdict", model: records.Model, before: Live | None) -> None:
    """What was judged must be what is switched, from what is live."""
    if verdict.candidate_model != model.digest:
        raise Refused(f"The verdict judged model {str(verdict.candidate_model)[:12]}, not {model.digest[:12]}.")
    live = before.live.model.digest if before else None
    if verdict.baseline_model != live:
        raise Refused(
            f"The verdict compared with model {str(verdict.baseline_model)[:12]}, but live is "
            f"{live[:12] if live else 'nothing'}: evaluate and gate against what is live."
        )


def _answers_where_it_leads(settings: Settings, wanted: Live, sample: Sequence[dict[str, Any]]) -> str:
    """Read the record as an application does and ask there; why that went wrong, or ""."""
    try:
        seen, _ = read(settings)
        if seen is None or seen.live != wanted.live:
            return "the record does not read back as it was written"
        told = endpoints.probe(settings, seen.live.endpoint, sample[:4])
    except (AzureFailed, InvalidInput) as error:
        return str(error)
    return f"{told.failures} of {told.requests} requests failed after the switch" if told.failures else ""


def roll_back(settings: Settings, reason: str, sample: Sequence[dict[str, Any]]) -> records.Rollout:
    """Lead the application back to the endpoint of before. Raises Refused when there is none or it does not answer."""
    started, (now, etag) = records.now(), read(settings)
    if now is None or now.previous is None:
        raise Refused(f"{settings.endpoint} has no endpoint of before to go back to.")
    back, left = now.previous, now.live.endpoint
    told = endpoints.probe(settings, back.endpoint, sample)
    if told.failures:
        raise Refused(
            f"{back.endpoint} failed {told.failures} of {told.requests} requests: going back would mend nothing."
        )
    record = _moved(settings, now, back, reason)
    write(settings, record, etag)
    return _told(record, left, back.endpoint, "ROLLED_BACK", reason, started, {back.endpoint: told})


def _moved(
    settings: Settings, before: Live | None, to: Side, reason: str, verdict: str = "", approved_by: str | None = None
) -> Live:
    """The record that leads to `to`. Without a verdict: a first release or a way back, which needs none."""
    return Live(
        application=settings.endpoint,
        live=to,
        previous=before.live if before else None,
        verdict_digest=verdict,
        approved_by=approved_by,
        reason=reason,
        moved_at=records.now(),
        moved_by=runner(),
        moves=before.moves + 1 if before else 1,
    )


def _told(
    record: Live,
    candidate: str,
    stable: str,
    state: str,
    reason: str,
    started: datetime,
    asked: Mapping[str, records.Smoke],
) -> records.Rollout:
    """The switch as the record that the report draws: one step of 100 %."""
    ended, leads = records.now(), {record.live.endpoint: 100}
    step = records.Step(
        weight=100,
        traffic_read_back=leads,
        requests={name: smoke.requests for name, smoke in asked.items()},
        errors={name: smoke.failures for name, smoke in asked.items()},
        latency_ms_p50={name: smoke.latency_ms_p50 for name, smoke in asked.items() if smoke.latency_ms_p50},
        latency_ms_p95={},
        sending_seconds=sum(smoke.seconds for smoke in asked.values()),
        decision="promote" if state == "PROMOTED" else "roll back",
        reason=reason,
        started_at=started,
        ended_at=ended,
    )
    return records.Rollout(
        endpoint=record.application,
        stable=stable,
        candidate=candidate,
        state=state,
        reason=reason,
        verdict_digest=record.verdict_digest,
        approved_by=record.approved_by,
        runner=runner(),
        started_at=started,
        ended_at=ended,
        steps=[step],
        writes=[records.Write(at=ended, traffic=leads)],
    )
