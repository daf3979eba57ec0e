"""What is settled before a rollout moves anything: which colours, which models, whose approval, new or resumed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from scripts import records
from scripts.endpoint import Endpoint
from scripts.errors import InvalidInput, Refused
from scripts.rollout import resume
from scripts.rollout.approval import Approval, check_approval, check_pass
from scripts.rollout.decide import Phase
from scripts.rollout.policy import Policy
from scripts.rollout.resume import Move
from scripts.rollout.state import RolloutState, all_to, runner
from scripts.rollout.store import Held, Store, Tenure

if TYPE_CHECKING:
    from eval.verdict import Verdict

FIRST_RELEASE = [100]  # there is nobody to share the traffic with


def check_verdict(verdict: "Verdict", endpoint: Endpoint, stable: str, candidate: str) -> None:
    """An approval is of one verdict about two models: what is deployed must be exactly what was judged."""
    check_pass(verdict)
    judged = {candidate: verdict.candidate_model, **({stable: verdict.baseline_model} if stable else {})}
    for colour, model in judged.items():
        deployed = endpoint.deployment_digest(colour)
        if not deployed or deployed != model:
            raise Refused(
                f"Deployment {colour} runs model {deployed[:12] or 'without a digest'}, "
                f"but the verdict judged {str(model)[:12]}: evaluate and gate what is deployed."
            )


def live_colour(traffic: dict[str, int], *, first: bool = False) -> str:
    """The stable deployment: the one with all the traffic; "" for the `first` release, which has nobody before it.

    Raises Refused when a rollout seems to be under way.
    """
    if not traffic:
        if first:
            return ""
        raise InvalidInput("The endpoint has no traffic yet: make the first release with `deploy --first`.")
    name, weight = max(traffic.items(), key=lambda item: item[1])
    if weight != 100:
        raise Refused(
            f"Traffic is split {traffic}: take it back first with `python -m scripts watchdog` or `rollback`."
        )
    return name


def only_idle(deployed: Sequence[str], traffic: dict[str, int], name: str) -> str:
    """The one deployment that is not live. Raises InvalidInput when there is none or more than one."""
    idle = sorted(each for each in deployed if not traffic.get(each))
    if len(idle) == 1:
        return idle[0]
    if not idle:
        raise InvalidInput(f"Endpoint {name} has no deployment without traffic: deploy a candidate first.")
    raise InvalidInput(f"Endpoint {name} has several deployments without traffic: choose one with --candidate {idle}.")


def begin(
    endpoint: Endpoint,
    store: Store,
    verdict: "Verdict",
    candidate: str | None,
    policy: Policy,
    *,
    approval: Approval | None = None,
    again: bool = False,
) -> tuple[Tenure | RolloutState, bool, str]:
    """Take the rollout that is to be run; whether its weights are in force already; what was found.

    A state instead of a hold on one: it was promoted before and there is nothing to do. Raises Refused, InvalidInput.
    """
    check_pass(verdict)
    held, traffic = store.read(), endpoint.traffic()
    found = held.state if held else None
    first = verdict.baseline_model is None
    if candidate is None and found and (found.under_way or found.verdict_digest == verdict.digest):
        candidate = found.candidate
    if candidate is None:
        live_colour(traffic, first=first)
        candidate = only_idle(sorted(endpoint.deployments()), traffic, endpoint.name)
    asked = resume.Asked(verdict.digest, candidate, again)
    move, why = resume.plan(found, traffic, asked, policy.max_looks, records.now())
    if move is Move.REFUSE:
        raise Refused(why)
    if held is None or move is Move.START:
        if approval:
            check_approval(approval, verdict, policy, records.now())
        stable = live_colour(traffic, first=first)
        if stable == candidate:
            raise Refused(f"Deployment {candidate} already has all the traffic.")
        check_verdict(verdict, endpoint, stable, candidate)
        return (
            Tenure(store, _new(endpoint.name, held, verdict, (stable, candidate), policy, approval), held),
            False,
            why,
        )
    if move is Move.DONE:
        return held.state, True, why
    mine = _taken_over(endpoint, store, held, verdict, move, why)
    return mine, move is Move.CONFIRM and mine.state.phase is Phase.SET, mine.state.reason


def _new(
    endpoint: str,
    held: Held | None,
    verdict: "Verdict",
    names: tuple[str, str],
    policy: Policy,
    approval: Approval | None,
) -> RolloutState:
    stable, candidate = names
    now = records.now()
    return RolloutState(
        endpoint=endpoint,
        stable=stable,
        candidate=candidate,
        stable_model=verdict.baseline_model or "",
        candidate_model=verdict.candidate_model or "",
        verdict_digest=verdict.digest,
        approved_by=approval.approved_by if approval else None,
        epoch=held.state.epoch + 1 if held else 1,
        runner=runner(),
        phase=Phase.SET,
        plan=policy.steps if stable else FIRST_RELEASE,
        standing=all_to(stable),
        reason=f"the candidate passed the gate{f' and {approval.approved_by} approved it' if approval else ''}",
        started_at=now,
        updated_at=now,
    )


def _taken_over(endpoint: Endpoint, store: Store, held: Held, verdict: "Verdict", move: Move, why: str) -> Tenure:
    found = held.state
    if move is not Move.GO_BACK:
        try:
            check_verdict(verdict, endpoint, found.stable, found.candidate)
        except (Refused, InvalidInput) as error:  # a model was changed under a rollout that has begun
            move, why = Move.GO_BACK, f"taken over from {found.runner}: {error}"
    changes: dict[str, Any] = {"epoch": found.epoch + 1, "runner": runner(), "reason": why, "phase": Phase.SET}
    if move is Move.CONFIRM:
        changes |= {"standing": found.intent or found.standing, "intent": None}
    if move is Move.GO_BACK:
        changes |= {"phase": Phase.ROLLING_BACK, "intent": all_to(found.stable)}
    return Tenure(store, found.changed(**changes), held)
