"""Verdicts that were given once stay given: kept in the workspace's storage under what they judged.

A release that is run again (a killed runner, a resumed wait) must not evaluate until it passes: rerun-until-green with
five tries passes a model that is five points worse half of the time. So the same models under the same policy and
prompts get the verdict that they got, byte for byte; on other prompts they are looked at again only as often as the
policy says (`looks`), and that look pays for the ones before it.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.policy import load_policy
from eval.verdict import Verdict, parse_verdict, read_verdict
from scripts import azure_ml, digests, records, storage
from scripts.errors import Refused
from scripts.settings import Settings

if TYPE_CHECKING:
    from eval.decide import Earlier

KEPT = ("pass", "fail", "inconclusive")  # an invalid one is about broken evidence, which may be gathered again
FOLDER = "verdicts"


class Judged(records.Record):
    """`judged.json`: whether these two models have been judged before, and how.

    `outcome` is the verdict's, or "live" for a candidate that is live already: then there is nothing to release.
    """

    key: str
    judged: bool
    outcome: str
    reason: str


def question(candidate: str, baseline: str, policy: Path) -> str:
    """What is asked, whatever the prompts: two model digests ("" for no baseline) and the policy's bytes."""
    return digests.of_values(candidate, baseline, digests.of_file(policy))[:32]


def key(candidate: str, baseline: str, policy: Path, prompts: Path) -> str:
    """What a verdict is about: a question, and the bytes of the prompts."""
    return f"{question(candidate, baseline, policy)}/{digests.of_file(prompts)[:16]}"


def keep_and_tag(
    settings: Settings, name: str, verdict: Verdict, model: records.Model, path: Path, tables: Sequence[Path]
) -> None:
    """Upload the evidence, then the verdict, under `name`, and tag the model.

    An invalid verdict is neither kept nor written on the model. Raises Refused when there is a verdict already: it
    stays, with its evidence.
    """
    if verdict.outcome not in KEPT:
        return
    evidence = [table.with_suffix(ending) for table in tables for ending in (".jsonl", ".answers.jsonl", ".run.json")]
    with azure_ml.explained("Keeping the verdict"):
        box = storage.container(settings)
        given = box.get_blob_client(f"{FOLDER}/{name}/verdict.json")
        if given.exists():
            raise Refused("These models were judged before on these prompts, and that verdict stays: see `judged`.")
        for file in (file for file in evidence if file.exists()):
            box.upload_blob(f"{FOLDER}/{name}/scores/{file.name}", file.read_bytes(), overwrite=True)
        given.upload_blob(path.read_bytes())
    tag_model(settings, model, verdict)


def look(
    settings: Settings, candidate: records.Model, live: records.Live, policy: Path, prompts: Path, folder: Path
) -> Judged:
    """What is known about a candidate before anything is asked of it. Raises AzureFailed as Azure does."""
    name = key(candidate.digest, live.model.digest if live.model else "", policy, prompts)
    if live.model and live.model.digest == candidate.digest:
        reason = f"model {candidate.name}:{candidate.version} is live already as {live.stable}"
        return Judged(key=name, judged=True, outcome="live", reason=reason)
    if found := find(settings, name, folder):
        tag_model(settings, candidate, found)  # a runner may have died between keeping the verdict and writing the tag
        return Judged(key=name, judged=True, outcome=found.outcome, reason=found.reason)
    looks = load_policy(policy).looks
    before = looked(settings, name.partition("/")[0])
    if len(before) < looks:
        return Judged(key=name, judged=False, outcome="", reason="")
    last = before[-1]
    find(settings, last, folder)
    found = read_verdict(folder / "verdict.json")
    often = {1: "once", 2: "twice"}[looks]
    reason = f"{found.reason} That was on other prompts, and the policy lets a candidate be judged {often}."
    return Judged(key=last, judged=True, outcome=found.outcome, reason=reason)


def looked(settings: Settings, asked: str) -> list[str]:
    """Names of the verdicts on this question that were no pass, oldest first: each was a look. Raises EvalError for one
    that somebody edited."""
    with azure_ml.explained("Looking for earlier verdicts"):
        box = storage.container(settings)
        start = f"{FOLDER}/{asked}/"
        blobs = [blob for blob in box.list_blobs(name_starts_with=start) if blob.name.endswith("/verdict.json")]
        # An edited one ends it here: called a pass, it would not count as a look.
        given = [(blob, parse_verdict(box.download_blob(blob.name).readall(), blob.name)) for blob in blobs]
    given.sort(key=lambda each: (each[0].creation_time, each[0].name))
    return [
        blob.name.removeprefix(f"{FOLDER}/").removesuffix("/verdict.json")
        for blob, verdict in given
        if verdict.outcome != "pass"
    ]


def earlier(settings: Settings, asked: str) -> "Earlier | None":
    """The look before this one, with the candidate's table of then; None when this is the first."""
    from eval.decide import Earlier
    from eval.scores import read_scores

    with tempfile.TemporaryDirectory() as folder:
        names = looked(settings, asked)
        verdict = find(settings, names[-1], Path(folder)) if names else None
        if verdict is None:
            return None
        table = Path(folder) / "scores" / "candidate.jsonl"
        return Earlier(verdict, read_scores(table) if table.exists() else ())


def find(settings: Settings, name: str, folder: Path) -> Verdict | None:
    """Bring the verdict `name` and its evidence into `folder`; None when there is none.

    Raises EvalError for a verdict that somebody edited.
    """
    with azure_ml.explained("Looking for an earlier verdict"):
        box = storage.container(settings)
        start = f"{FOLDER}/{name}/"
        found: dict[str, Any] = {blob.name.removeprefix(start): blob for blob in box.list_blobs(name_starts_with=start)}
        if "verdict.json" not in found:
            return None
        for relative in found:
            records.write_bytes(folder / relative, box.download_blob(start + relative).readall())
    return read_verdict(folder / "verdict.json")


def tag_model(settings: Settings, model: records.Model, verdict: Verdict) -> None:
    """Write the outcome on the model version, where people and the schedule look for it."""
    ml = azure_ml.client(settings)
    with azure_ml.explained(f"Tagging model {model.name}:{model.version}"):
        entity = ml.models.get(model.name, model.version)
        wanted = {"verdict": verdict.outcome, "verdict_digest": verdict.digest}
        if wanted.items() <= (entity.tags or {}).items():
            return
        entity.tags = {**(entity.tags or {}), **wanted}
        ml.models.create_or_update(entity)
