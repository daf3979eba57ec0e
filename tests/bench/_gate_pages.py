"""The part of docs/gate.md that is measured: its tables and its figure. Each says whether it was the same before."""

import re
from pathlib import Path

from tests.bench._gate_study import DISCORDANT, QUESTIONS, SIZES, TRIES, Shares
from tests.eval.counted import MARGIN, rates

BEGIN, END = "<!-- measured by make bench BENCH=gate -->", "<!-- end of what is measured -->"
CURVES = (
    (0.03, "3 points better", "#1b7837", "-"),
    (0.0, "unchanged", "#2166ac", "-"),
    (-0.03, "3 points worse", "#b2182b", "-."),
    (-MARGIN, "5 points worse (the margin)", "#b2182b", "-"),
)


def tables(alone: dict[float, Shares], groups: dict[float, Shares], again: list[tuple[str, float, float]]) -> str:
    """Markdown: a table per question, one for paraphrases, one for trying again."""
    parts = []
    for question, delta, kind in QUESTIONS:
        shares = alone[delta]
        parts.append(_table(question, [f"{n}" for n in SIZES], {r: _pick(by, SIZES, kind) for r, by in shares.items()}))
    sizes = tuple(next(iter(groups[0.0].values())))
    heads = [f"{n}: {short}" for n in sizes for short in ("fails unchanged", "passes −5", "passes unchanged")]
    asked = ((0.0, "fail"), (-MARGIN, "pass"), (0.0, "pass"))
    rows = {
        rule: [groups[delta][rule][n][kind == "fail"] for n in sizes for delta, kind in asked] for rule in groups[0.0]
    }
    parts.append(_table("four paraphrases of each ticket", heads, rows))
    heads = ["first try", f"best of {TRIES} tries (two with `looks: 2`)"]
    parts.append(_table("passes a model that is 5 points worse, 200 prompts", heads, {r: [a, b] for r, a, b in again}))
    return "\n\n".join(parts)


def _pick(by: dict[int, tuple[float, float]], sizes: tuple[int, ...], kind: str) -> list[float]:
    return [by[n][kind == "fail"] for n in sizes]


def _table(title: str, heads: list[str], rows: dict[str, list[float]]) -> str:
    lines = [f"| {title} | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    lines += [f"| {name} | {' | '.join(_percent(share) for share in shares)} |" for name, shares in rows.items()]
    return "\n".join(lines)


def _percent(share: float) -> str:
    return "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def update(page: Path, measured: str, begin: str = BEGIN) -> bool:
    """Put the tables where the page keeps them."""
    before = page.read_text(encoding="utf-8")
    block = f"{begin}\n\n{measured}\n\n{END}"
    after, found = re.subn(f"{re.escape(begin)}.*?{re.escape(END)}", lambda _: block, before, flags=re.DOTALL)
    if found != 1:
        raise SystemExit(f"✗ {page}: the lines {begin} and {END} are not there once each")
    if after != before:
        page.write_text(after, encoding="utf-8")
    return after == before


def draw(path: Path) -> bool:
    """P(PASS) by the number of prompts, counted out; the same bytes each time."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "gate", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10})
    from matplotlib import pyplot

    sizes = [20, 30, 40, 50, 75, *range(100, 1001, 50)]
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for delta, label, colour, style in CURVES:
        shares = [rates(n, DISCORDANT, delta)[0] for n in sizes]
        axes.plot(sizes, shares, color=colour, linestyle=style, linewidth=1.8, label=f"candidate {label}")
    axes.axhline(0.05, color="0.6", linewidth=0.8, linestyle=":")
    axes.set(xlabel="prompts", ylabel="share of releases that pass", xlim=(0, 1000), ylim=(0, 1.01))
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.92")
    axes.legend(frameon=False, loc=(0.45, 0.52))  # between the curves
    before = path.read_bytes() if path.exists() else b""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path.read_bytes() == before
