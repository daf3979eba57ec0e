"""What is settled before a rollout moves anything: which colours, which models, whose approval, new or resumed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from scripts import records
from scripts.errors import InvalidInput, Refused
from scripts.front import Front
from scripts.rollout import preflight, resume
from scripts.rollout.approval import Approval, check_approval, check_pass
from scripts.rollout.policy import Policy
from scripts.rollout.resume import Move
from scripts.rollout.state import Phase, RolloutState, all_to
from scripts.rollout.store import Held, Store, Tenure
from scripts.rollout.words import runner

if TYPE_CHECKING:
    from eval.verdict import Verdict

FIRST_RELEASE = [100]  # there is nobody to share the traffic with


def check_verdict(verdict: "Verdict", endpoint: Front, stable: str, candidate: str) -> None:
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


@dataclass(frozen=True)
class Wanted:
    """What is to go live, and by which rules. `candidate` None: the idle colour, or the model's own endpoint."""

    verdict: "Verdict"
    policy: Policy
    candidate: str | None = None
    approval: Approval | None = None
    again: bool = False


def begin(
    endpoint: Front, store: Store, wanted: Wanted, see: Callable[[str, str, datetime], None]
) -> tuple[Tenure | RolloutState, str]:
    """Take the rollout that is to be run; what was found. `see` raises Refused for what preflight.by_azure checks.

    A state instead of a hold on one: it was promoted before and there is nothing to do. Raises Refused, InvalidInput.
    """
    verdict, candidate = wanted.verdict, wanted.candidate
    check_pass(verdict)
    held, traffic = store.read(), endpoint.traffic()
    found = held.state if held else None
    first = verdict.baseline_model is None
    if candidate is None and found and (found.under_way or found.verdict_digest == verdict.digest):
        candidate = found.candidate
    if candidate is None:
        live_colour(traffic, first=first)
        named = endpoint.serving(str(verdict.candidate_model))
        candidate = named or only_idle(sorted(endpoint.deployments()), traffic, endpoint.name)
    move, why = resume.plan(found, traffic, resume.Asked(verdict.digest, candidate, wanted.again), records.now())
    if move is Move.REFUSE:
        raise Refused(why)
    if held is not None and move is Move.DONE:
        return held.state, why
    if wanted.approval:
        check_approval(wanted.approval, verdict, wanted.policy, records.now())
    if held is not None and move is Move.TAKE_OVER:
        return _taken_over(store, held, wanted.approval), why
    stable = live_colour(traffic, first=first)
    if stable == candidate:
        raise Refused(f"Deployment {candidate} already has all the traffic.")
    preflight.whole(endpoint, stable, candidate)
    check_verdict(verdict, endpoint, stable, candidate)
    preflight.fresh(verdict, wanted.policy, records.now())
    see(stable, candidate, records.now())
    return Tenure(store, _new(endpoint, held, wanted, stable, candidate), held), why


def carry_on(endpoint: str, store: Store, policy: Policy, approval: Approval | None) -> Tenure:
    """Take the rollout that is under way, whatever it is of. Raises Refused when there is none, Fenced."""
    held = store.read()
    if held is None or not held.state.under_way:
        ended = f": the last one is {held.state.phase.value}" if held else ""
        raise Refused(f"No rollout of {endpoint} is under way{ended}. Begin one with `rollout start`.")
    if held.state.policy_digest not in ("", policy.digest):
        raise Refused("The rollout was begun with another policy: tick it with that one, or take it back.")
    return _taken_over(store, held, approval)


def _taken_over(store: Store, held: Held, approval: Approval | None) -> Tenure:
    changes: dict[str, Any] = {"epoch": held.state.epoch + 1, "runner": runner()}
    if approval:
        changes["approval"] = approval
    return Tenure(store, held.state.changed(**changes), held)


def _new(endpoint: Front, held: Held | None, wanted: Wanted, stable: str, candidate: str) -> RolloutState:
    verdict, policy, approval = wanted.verdict, wanted.policy, wanted.approval
    now = records.now()
    return RolloutState(
        endpoint=endpoint.name,
        stable=stable,
        candidate=candidate,
        stable_model=verdict.baseline_model or "",
        candidate_model=verdict.candidate_model or "",
        verdict_digest=verdict.digest,
        policy_digest=policy.digest,
        approval=approval,
        epoch=held.state.epoch + 1 if held else 1,
        runner=runner(),
        phase=Phase.PROVISIONING,
        since=now,
        plan=endpoint.rules(policy).steps if stable else FIRST_RELEASE,
        standing=all_to(stable),
        reason=f"the candidate passed the gate{f' and {approval.approved_by} approved it' if approval else ''}",
        started_at=now,
        updated_at=now,
    )
