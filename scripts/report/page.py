"""One self-contained page from a folder of records: no script, no address, the same bytes from the same input."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from scripts.records import write_text
from scripts.report import facts, figures, roles, text, views
from scripts.report.load import Records, load
from scripts.report.provenance import mismatches, provenance
from scripts.report.scores import CANDIDATE, LABELS, count_changes, flips, judged_baseline, primary
from scripts.report.stages import strip
from scripts.report.story import final_traffic, reason, tell

HERE = Path(__file__).resolve().parent


def build(records: Path, out: Path) -> Path:
    """Write the page of the records in the folder `records` to `out` (a file ending in .html, or a folder).

    Returns the page's path. Raises InvalidInput when `records` is no folder or `out` cannot be written.
    """
    page = out if out.suffix == ".html" else out / "index.html"
    write_text(page, render(load(records)))
    return page


def render(records: Records) -> str:
    """The page as text."""
    return _template().render(**view(records))


def view(records: Records) -> dict[str, Any]:
    """Everything the template shows."""
    verdict, rollout, training = records.verdict, records.rollout, records.training
    return {
        "story": tell(records),
        "traffic": final_traffic(records),
        "facts": facts.facts(records),
        "stages": strip(records),
        "notices": [*records.problems, *mismatches(records)],
        "verdict": verdict,
        "verdict_reason": reason(verdict) if verdict else "",
        "metrics": views.metric_rows(verdict) if verdict else [],
        "slices": views.slice_rows(verdict) if verdict else [],
        "guards": views.guard_rows(verdict) if verdict else [],
        "forest": figures.forest(verdict) if verdict else None,
        "scores": figures.scores(records),
        "score_rows": views.score_rows(records),
        "training": training,
        "training_rows": views.training_rows(training) if training else [],
        "loss": figures.loss(training) if training else None,
        "rollout": rollout,
        "rollout_lost": records.rollout_lost,
        "steps": views.step_rows(rollout) if rollout else [],
        "sides": " / ".join(views.sides(rollout)) if rollout else "",
        "alone": roles.judged_alone(verdict),
        "weights": figures.weights(rollout) if rollout else None,
        "requests": figures.requests(rollout) if rollout else None,
        "examples": _examples(records),
        "dataset": records.dataset,
        "provenance": provenance(records),
        "style": Markup((HERE / "style.css").read_text(encoding="utf-8")),  # noqa: S704  # our own file
    }


def _examples(records: Records) -> dict[str, Any]:
    baseline, candidate = judged_baseline(records), records.table(CANDIDATE)
    if not baseline or not candidate:
        return {"flips": [], "worse": 0, "better": 0, "baseline": "", "compared": False}
    worse, better = count_changes(baseline, candidate, primary(records))
    return {
        "flips": flips(baseline, candidate, primary(records)),
        "worse": worse,
        "better": better,
        "baseline": LABELS.get(baseline.name, baseline.name),
        "compared": True,
    }


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["commands"] = commands
    environment.filters["short"] = text.short
    environment.filters["words"] = text.name
    return environment.get_template("template.html.jinja")


def commands(words: str) -> Markup:
    """What stands between backquotes becomes `<code>`; everything else is escaped."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(words))))  # noqa: S704  # escaped just before
