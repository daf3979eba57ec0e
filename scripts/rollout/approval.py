"""An approval is of one verdict, by somebody, at a time; a file, so that what was approved can be checked later."""

import getpass
import json
import os
import subprocess
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import AwareDatetime

from scripts import records
from scripts.errors import AzureFailed, InvalidInput, Refused
from scripts.rollout.policy import Policy
from scripts.rollout.words import one_line, run_url

if TYPE_CHECKING:
    from eval.verdict import Verdict


CLOCKS_DIFFER = timedelta(minutes=1)


class Approval(records.Record):
    """`approval.json`. `policy_digest`: of the rollout policy it was given for; null for any."""

    verdict_digest: str
    candidate_model: str
    baseline_model: str | None
    approved_by: str
    approved_at: AwareDatetime
    run_url: str | None
    policy_digest: str | None = None


def check_pass(verdict: "Verdict") -> None:
    """Only a pass that names what was judged may be approved or rolled out."""
    if verdict.outcome != "pass":
        raise Refused(f"The verdict is {verdict.outcome}, so no traffic moves: {verdict.reason}")
    if not verdict.bound:
        raise Refused("The verdict names no model digests, so nobody knows what was judged: gate with both models.")


def approve(verdict: "Verdict", by: str | None, policy: Policy) -> Approval:
    """Raises Refused for a verdict that is not a bound pass, or when nobody has approved."""
    check_pass(verdict)
    return Approval(
        verdict_digest=verdict.digest,
        candidate_model=str(verdict.candidate_model),
        baseline_model=verdict.baseline_model,
        approved_by=one_line(by) if by and one_line(by) else _who(),
        approved_at=records.now(),
        run_url=run_url() or None,
        policy_digest=policy.digest,
    )


def check_approval(approval: Approval, verdict: "Verdict", policy: Policy, now: datetime) -> None:
    """Raises Refused unless it is of this verdict and fresh."""
    if approval.verdict_digest != verdict.digest:
        raise Refused(
            f"{approval.approved_by} approved verdict {approval.verdict_digest[:12]}, "
            f"but this is verdict {verdict.digest[:12]}: approve this one."
        )
    if approval.policy_digest not in (None, policy.digest):
        raise Refused(f"{approval.approved_by} approved a rollout by another policy: approve this one.")
    if approval.approved_at > now + CLOCKS_DIFFER:
        raise Refused(f"The approval is dated {approval.approved_at}, which has not come yet: approve again.")
    if now - approval.approved_at > timedelta(hours=policy.approval.max_age_hours):
        raise Refused(
            f"The approval by {approval.approved_by} is older than {policy.approval.max_age_hours:g} hours: "
            "approve again."
        )


def _who() -> str:
    """In a workflow the reviewers of its environments, elsewhere whoever is signed in to this machine."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return getpass.getuser()
    missing = [name for name in ("GITHUB_REPOSITORY", "GITHUB_RUN_ID") if not os.environ.get(name)]
    if missing:
        raise InvalidInput(f"{missing[0]} is not set, so the reviewers cannot be asked for: pass --by NAME.")
    path = f"repos/{os.environ['GITHUB_REPOSITORY']}/actions/runs/{os.environ['GITHUB_RUN_ID']}/approvals"
    reviewers = approvers(_gh(path))
    if not reviewers:
        raise Refused(
            "Nobody has approved this run: "
            "the job needs an environment with required reviewers (Settings > Environments)."
        )
    return ", ".join(reviewers)


def approvers(reviews: Any) -> list[str]:
    """Logins of the reviews that approve, each once, in order; what is not such a review counts for nothing."""
    approving = [each for each in reviews if isinstance(each, dict)] if isinstance(reviews, list) else []
    logins = [(each.get("user") or {}).get("login") for each in approving if each.get("state") == "approved"]
    return list(dict.fromkeys(login for login in logins if isinstance(login, str) and login))


def _gh(path: str) -> Any:
    try:
        done = subprocess.run(["gh", "api", path], capture_output=True, text=True, check=True, timeout=60)
        return json.loads(done.stdout)
    except FileNotFoundError:
        raise InvalidInput("gh is not installed, so the reviewers cannot be asked for: pass --by NAME.") from None
    except subprocess.CalledProcessError as error:
        said = one_line(error.stderr) or f"exit code {error.returncode}"
        raise AzureFailed(
            f"GitHub did not tell who approved ({said}): the job needs the scope actions: read."
        ) from None
    except (subprocess.TimeoutExpired, ValueError):
        raise AzureFailed("GitHub did not tell who approved: run the job again.") from None
