"""The story of a release as Markdown, for the summary of a workflow's job: what an approver reads first.

The verdict comes first. Every word that comes from a record goes through `masked`; what stands here in plain letters is
ours.
"""

from __future__ import annotations

from scripts.report import models as m
from scripts.report import roles, text, views
from scripts.report.load import Records
from scripts.report.masked import code, commands, masked, table
from scripts.report.provenance import mismatches
from scripts.report.scores import CANDIDATE, LABELS, Part, count_changes, flips, judged_baseline, primary
from scripts.report.story import final_traffic, reason, sentence, tell

MARKER = "<!-- release-train: verdict -->"
MOST_FLIPS, MOST_PARTS = 5, 8
PROMPT, ANSWER = 240, 80
"""Characters of a ticket, and of a part of an answer, that are shown here; the whole page has all of them."""
OUTCOMES: dict[m.Outcome, str] = {
    "pass": "✅ Verdict: pass",
    "fail": "❌ Verdict: refused",
    "inconclusive": "⚠️ Verdict: undecided",
    "invalid": "⚠️ Verdict: not valid",
}
ENDS = {
    "PROMOTED": "The candidate was promoted",
    "ROLLED_BACK": "Traffic was taken back",
    "ROLLBACK_STUCK": "Traffic could not be taken back",
}


def markdown(records: Records, page: str, url: str = "") -> str:
    """`page` is the path of the whole page, `url` its address where it has one (already checked)."""
    parts = [
        _verdict(records),
        _story(records, page, url),
        _metrics(records.verdict),
        _slices(records.verdict),
        _traffic(records),
        _worst(records),
        _notices(records),
    ]
    return "\n".join(line for part in parts for line in part)


def comment(records: Records, page: str, url: str = "") -> str:
    """The short form for one comment on a pull request: verdict, why, metrics. By `MARKER`, which nobody sees, whoever
    posts it finds the comment of the run before and replaces it."""
    parts = [[MARKER], _verdict(records), _metrics(records.verdict), _story(records, page, url)]
    return "\n".join(line for part in parts for line in part) + "\n"


def _verdict(records: Records) -> list[str]:
    verdict = records.verdict
    if verdict is None:
        lost = "verdict.json" in records.broken
        why = "its record cannot be used, which counts as none" if lost else "the train did not get that far"
        return ["## ⚠️ There is no verdict", "", f"**Why:** {why}.", ""]
    unbound = "" if verdict.bound else " **It names no model, so a rollout refuses it.**"
    return [f"## {OUTCOMES[verdict.outcome]}", "", f"**Why:** {masked(reason(verdict), 1000)}{unbound}", ""]


def _story(records: Records, page: str, url: str) -> list[str]:
    story = tell(records)
    said = f"**{masked(story.headline)}.**"
    if records.verdict is None or records.rollout or records.rollout_lost:
        said += f" {masked(story.why, 1000)}"
    cost = records.training.cost if records.training else None
    paid = [f"**Training cost:** {masked(cost.said)}", ""] if cost else []
    where = f"[open it](<{url}>)" if url else f"{code(page)} among the files of this run"
    return [said, "", f"**Next:** {commands(story.next)}", "", *paid, f"**The whole page:** {where}", ""]


def _metrics(verdict: m.Verdict | None) -> list[str]:
    if verdict is None or not verdict.metrics:
        return []
    columns = views.metric_columns(verdict)
    rows = [
        [
            *(masked(row[key]) for key in columns),
            masked(row["outcome"] + (f" ({row['role']})" if row["role"] else "")),
        ]
        for row in views.metric_rows(verdict)
    ]
    limits = [
        f"- Limit on {masked(row['name'])}: **{masked(row['outcome'])}**. {masked(sentence(row['reason']))}"
        for row in views.guard_rows(verdict)
    ]
    alone = ["The candidate was judged alone: no live model to compare it with.", ""]
    shown = alone if roles.judged_alone(verdict) else []
    notes = [f"- Note: {masked(sentence(caveat))}" for caveat in verdict.caveats]
    return ["### Metrics", "", *shown, *table([*columns.values(), "Outcome"], rows), *limits, *notes, ""]


def _slices(verdict: m.Verdict | None) -> list[str]:
    """Those that are shown to get worse; of the others, how many there are too few prompts to tell of."""
    if verdict is None or not verdict.slices:
        return []
    head = ["### Slices that get worse", ""]
    rows = [row for row in views.slice_rows(verdict) if row["tone"] == "bad"]
    open_ = sum(views.tone(s.outcome) == "unsure" for s in verdict.slices)
    rest = f"{open_} of {text.plural(len(verdict.slices), 'slice')} could not be decided, which is no proof of no harm."
    told = [rest, ""] if open_ else []
    if not rows:
        return [*head, "None is shown to get worse." + (f" {rest}" if open_ else ""), ""]
    keys = {"name": "Slice", "baseline": "Live model", "candidate": "Candidate", "difference": "Difference"}
    keys |= {"interval": "Interval", "n": "Prompts"}
    return [*head, *table(list(keys.values()), [[masked(row[key]) for key in keys] for row in rows]), *told]


def _traffic(records: Records) -> list[str]:
    rollout = records.rollout
    if rollout is None:
        lost = "A rollout ran and left no record that can be used: traffic may have moved."
        return ["### Traffic", "", lost, ""] if records.rollout_lost else []
    pair = masked(" / ".join(views.sides(rollout)))
    headers = [masked(rollout.candidate), "Read back", f"Requests {pair}", f"Errors {pair}", "Decision", "Why"]
    keys = ("weight", "read_back", "requests", "errors", "decision", "reason")
    rows = [[masked(row[key]) for key in keys] for row in views.step_rows(rollout)]
    steps = table(headers, rows) if rows else ["It ended before its first step was complete.", ""]
    ended = ENDS.get(rollout.state, f"The rollout has not ended ({masked(rollout.state)})")
    why = f": {masked(rollout.reason)}" if rollout.reason else ""
    last = masked(text.traffic(final_traffic(records)))
    return ["### Traffic", "", *steps, f"**How it ended:** {ended}{why}. Weights written last: {last}.", ""]


def _worst(records: Records) -> list[str]:
    """The prompts that got worse, worst first, with the answers of both sides."""
    before, after = judged_baseline(records), records.table(CANDIDATE)
    if not before or not after:
        return []
    name = primary(records)
    worse, better = count_changes(before, after, name)
    against = masked(LABELS.get(before.name, before.name).lower())
    said = f"Against {against}, {text.plural(worse, 'prompt')} got worse and {better} got better."
    rows = [
        [
            f"{masked(flip.prompt_id)}<br>{code(flip.prompt, PROMPT)}",
            _side(flip.expected),
            _side(flip.baseline),
            _side(flip.candidate),
        ]
        for flip in flips(before, after, name, MOST_FLIPS)
        if flip.change < 0
    ]
    head = ["Prompt", "Expected", "Live model answered", "Candidate answered"]
    return ["### Worst examples", "", said, "", *(table(head, rows) if rows else [])]


def _side(parts: tuple[Part, ...]) -> str:
    marks = {True: "✓ ", False: "✕ ", None: ""}
    return "<br>".join(
        marks[part.right] + (f"{masked(text.name(part.key), ANSWER)} " if part.key else "") + code(part.value, ANSWER)
        for part in parts[:MOST_PARTS]
    ) + ("<br>…" if len(parts) > MOST_PARTS else "")


def _notices(records: Records) -> list[str]:
    """What does not fit, as a list: an approver should know before, not after."""
    found = [*records.problems, *mismatches(records)]
    return ["### What does not fit", "", *(f"- {masked(notice)}" for notice in found), ""] if found else []
