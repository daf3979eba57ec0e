"""Matplotlib figures as inline SVG that follows the page: its colours, its font, its width, and no address in it.

Figures are drawn in marker colours, which become CSS variables, so that one drawing serves the light and the dark
scheme. One unit of the drawing is one CSS pixel. The same input gives the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INK, MUTED, GRID, BLUE, GREEN, BAD, PAPER, SOFT = (f"#0{i}0{i}0{i}" for i in range(1, 9))
DEPLOYED = {"blue": BLUE, "green": GREEN}
_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "line",
    BLUE: "blue",
    GREEN: "green",
    BAD: "bad",
    PAPER: "paper",
    SOFT: "soft",
}

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": GRID,
    "grid.linewidth": 1,
    "lines.linewidth": 2,
    "lines.solid_capstyle": "round",
}


@contextmanager
def canvas(width: int, height: float) -> Iterator[tuple[Any, Any]]:
    """A figure of `width` × `height` CSS pixels and its axes, in the report's style."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a label in a script that the measuring font lacks still shows
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        yield figure, figure.add_subplot()


def drawn(stable: str, candidate: str) -> tuple[str, str]:
    """The drawn colours of two deployments: their own where they are called blue and green, and never the same."""
    below = DEPLOYED.get(candidate) or (GREEN if DEPLOYED.get(stable) != GREEN else BLUE)
    above = DEPLOYED.get(stable)
    return (above if above and above != below else BLUE if below == GREEN else GREEN), below


def inline(figure: Any, ident: str, alt: str) -> str:
    """The figure as an `<svg>` element. `ident` keeps its ids apart from other figures'; `alt` is read aloud."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawing = buffer.getvalue()
    box = re.search(r'viewBox="([^"]+)"', drawing)
    body = drawing[drawing.index(">", drawing.index("<svg")) + 1 : drawing.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{ident}-\1"', body)
    body = re.sub(r'(?:xlink:)?href="#([^"]+)"', rf'href="#{ident}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{ident}-\1)", body)
    body = re.sub(r"font: ?(?:(bold|\d+) )?(\d+(?:\.\d+)?)px [^;\"]+", _font, body)
    for marker, variable in _VARIABLES.items():
        body = body.replace(marker, f"var(--{variable})")
    label = alt.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    width = box.group(1).split()[2] if box else "100"
    opening = f'<svg role="img" aria-label="{label}" viewBox="{box.group(1) if box else ""}" width="{width}">'
    return re.sub(r"\n\s*", "\n", opening + body + "</svg>")


def _font(match: re.Match[str]) -> str:
    weight = f"font-weight: {match.group(1)}; " if match.group(1) else ""
    return f"{weight}font-size: {match.group(2)}px"


def label(raw: str, most: int = 30) -> str:
    """Text of a record as a label: one line of printable characters, cut where it would leave the drawing."""
    line = "".join(c if c.isprintable() else " " for c in raw)
    return line if len(line) <= most else line[: most - 1] + "…"
