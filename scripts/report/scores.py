"""What the score tables say: means with error bars, and the prompts whose answer changed between two tables.

The gate decides; these figures only describe. They follow its rules where it matters: repeats are averaged before
prompts are, and a prompt without an answer scores zero (intention to treat), except where the infrastructure failed.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass

from scripts.report import models as m
from scripts.report.load import Records, ScoreTable

STABLE, FEW_SHOT, CANDIDATE = "stable", "stable-few-shot", "candidate"
LABELS = {STABLE: "Live model, zero-shot", FEW_SHOT: "Live model, few-shot", CANDIDATE: "Candidate"}
BASELINES = (FEW_SHOT, STABLE)
Z95 = 1.959964


@dataclass(frozen=True)
class Mean:
    """A metric's mean over prompts in [0, 1] with a 95 % interval."""

    value: float
    low: float
    high: float
    prompts: int


@dataclass(frozen=True)
class Part:
    """A piece of an answer: a key of the JSON, or (without a key) the raw text. `right` is None where nothing says."""

    key: str
    value: str
    right: bool | None


@dataclass(frozen=True)
class Flip:
    """A prompt whose score changed; `change` is candidate minus live model."""

    prompt_id: str
    history: tuple[m.Turn, ...]
    prompt: str
    change: float
    expected: tuple[Part, ...]
    baseline: tuple[Part, ...]
    candidate: tuple[Part, ...]


def per_prompt(table: ScoreTable, metric: str) -> dict[str, float]:
    """Mean over repeats of `metric` for each prompt; infrastructure failures are left out, other failures score 0."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in table.rows:
        if row.status == "infra_error":
            continue
        value = row.metrics.get(metric)
        values[row.prompt_id].append(value if row.status == "ok" and value is not None else 0.0)
    return {prompt: sum(v) / len(v) for prompt, v in values.items()}


def mean(table: ScoreTable, metric: str) -> Mean | None:
    """Mean and Wilson (1927) 95 % interval of a metric in [0, 1].

    A cluster of related prompts counts as one observation in the interval's width, so paraphrases do not narrow it.
    None where no row has the metric or a value lies outside [0, 1].
    """
    if not any(row.metrics.get(metric) is not None for row in table.rows):
        return None
    scores = per_prompt(table, metric)
    if not scores or any(not 0 <= v <= 1 for v in scores.values()):
        return None
    clusters = {row.cluster_id or row.prompt_id for row in table.rows if row.prompt_id in scores}
    p, n = sum(scores.values()) / len(scores), len(clusters)
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2))
    return Mean(p, min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half)), len(scores))


def metric_names(tables: tuple[ScoreTable, ...]) -> list[str]:
    """Every metric of the tables that is a share, exact match first, then in order of first appearance."""
    seen = dict.fromkeys(name for t in tables for row in t.rows for name, v in row.metrics.items() if v is not None)
    shares = [n for n in seen if any(mean(t, n) for t in tables)]
    return sorted(shares, key=lambda n: n != "exact_match")


def median(values: list[float]) -> float | None:
    ordered = sorted(values)
    if not ordered:
        return None
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def primary(records: Records) -> str:
    """The metric that the page leads with: exact match, or the verdict's first when it does not judge that."""
    names = [metric.name for metric in records.verdict.metrics] if records.verdict else []
    return "exact_match" if "exact_match" in names or not names else names[0]


def judged_baseline(records: Records) -> ScoreTable | None:
    """The live model's table that the gate compared with: the one the verdict names by digest, else the better one."""
    named = records.verdict.baseline_scores_digest if records.verdict else None
    for table in records.scores:
        if named and table.digest == named:
            return table
    means = {name: v.value for name in BASELINES if (t := records.table(name)) and (v := mean(t, primary(records)))}
    return records.table(max(means, key=lambda name: means[name])) if means else None


def flips(baseline: ScoreTable, candidate: ScoreTable, metric: str, most: int = 10) -> list[Flip]:
    """Up to `most` prompts whose score changed: the worst losses first, then, if there is room, the largest gains."""
    before, after = per_prompt(baseline, metric), per_prompt(candidate, metric)
    changes = {p: after[p] - before[p] for p in before.keys() & after.keys() if after[p] != before[p]}
    texts = _answers(baseline, metric), _answers(candidate, metric)
    shown = [p for p in changes if p in texts[0] or p in texts[1]]
    worse = sorted((p for p in shown if changes[p] < 0), key=lambda p: (changes[p], p))
    better = sorted((p for p in shown if changes[p] > 0), key=lambda p: (-changes[p], p))
    return [_flip(p, changes[p], texts[0].get(p, []), texts[1].get(p, [])) for p in (worse + better)[:most]]


def count_changes(baseline: ScoreTable, candidate: ScoreTable, metric: str) -> tuple[int, int]:
    """How many prompts got worse and how many got better."""
    before, after = per_prompt(baseline, metric), per_prompt(candidate, metric)
    both = before.keys() & after.keys()
    return sum(after[p] < before[p] for p in both), sum(after[p] > before[p] for p in both)


def _answers(table: ScoreTable, metric: str) -> dict[str, list[m.AnswerRow]]:
    """The answers of each prompt, the worst repeat first."""
    score = {(row.prompt_id, row.repeat): row.metrics.get(metric) or 0.0 for row in table.rows}
    grouped: dict[str, list[m.AnswerRow]] = defaultdict(list)
    for answer in sorted(table.answers, key=lambda a: (score.get((a.prompt_id, a.repeat), 0.0), a.repeat)):
        grouped[answer.prompt_id].append(answer)
    return grouped


def _flip(prompt_id: str, change: float, befores: list[m.AnswerRow], afters: list[m.AnswerRow]) -> Flip:
    """With repeats, a loss shows the baseline's best answer beside the candidate's worst, and a gain the reverse."""
    first, last = (-1, 0) if change < 0 else (0, -1)
    before, after = befores[first] if befores else None, afters[last] if afters else None
    source = after or before
    expected = source.expected if source else ""
    return Flip(
        prompt_id,
        tuple(source.history) if source else (),
        source.prompt if source else "",
        change,
        _parts(expected, None),
        _parts(before.answer if before else None, expected),
        _parts(after.answer if after else None, expected),
    )


def _parts(answer: str | None, expected: str | None) -> tuple[Part, ...]:
    """Split a JSON object into its keys, each marked right or wrong against `expected`; other text stays whole."""
    if answer is None:
        return (Part("", "(no answer)", False),)
    got, gold = _object(answer), _object(expected or "")
    if got is None:
        return (Part("", answer or "(empty answer)", None if expected is None else answer == expected),)
    parts = [Part(k, _value(v), None if gold is None else k in gold and gold[k] == v) for k, v in got.items()]
    return tuple(parts + [Part(k, "(missing)", False) for k in gold or {} if k not in got])


def _object(text: str) -> dict[str, object] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value else None


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
