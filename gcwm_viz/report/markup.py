"""A self-contained HTML file of text, tables and figures, with plotly.js inside.

Everything that comes from a run is escaped. A content security policy forbids every request, so the file works without
a network and makes no requests with one.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from gcwm_viz.figures.about import Explained

_STYLE = """
:root { color-scheme: light dark; --ink: #1b2128; --soft: #5c6672; --line: #dde2e8; --page: #fff; --panel: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ef; --soft: #a2adb9; --line: #303a46; --page: #11161c; --panel: #1b222b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 1.5rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 "Source Sans", "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.8rem; margin: 0; } h2 { font-size: 1.3rem; margin: 2.4rem 0 .6rem; } p { max-width: 75ch; }
.key { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0; padding: 0; list-style: none; }
.key li { flex: 1 1 11rem; padding: .7rem .9rem; background: var(--panel); border-radius: .4rem; }
.key b { display: block; font-size: 1.5rem; font-weight: 600; overflow-wrap: anywhere; }
.soft, figcaption, .key li { color: var(--soft); } .key b { color: var(--ink); }
.charts { margin: 1.4rem 0; display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: 1rem 1.4rem; }
figure { margin: 0; min-width: 0; } .c1 { grid-column: span 6; } .c2 { grid-column: span 3; }
.c3 { grid-column: span 2; } figcaption { font-size: .88rem; }
@media (max-width: 900px) { .c2, .c3 { grid-column: span 6; } }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; margin: .4rem 0; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td { overflow-wrap: anywhere; } code { font-size: .85em; overflow-wrap: anywhere; }
summary { cursor: pointer; } nav a { margin-right: 1rem; color: inherit; }
@media print { figure { break-inside: avoid; } nav { display: none; } }
"""
_SCRIPT = """
const dark = matchMedia("(prefers-color-scheme: dark)");
for (const holder of document.querySelectorAll(".plot")) {
  const figure = JSON.parse(document.getElementById(holder.id + "-data").textContent);
  const ink = () => dark.matches ? "#e4e9ef" : "#1b2128";
  figure.layout.font = Object.assign({}, figure.layout.font, {color: ink()});
  Plotly.newPlot(holder, figure.data, figure.layout, {responsive: true, displaylogo: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    toImageButtonOptions: {format: "svg", filename: holder.id}});
  dark.addEventListener("change", () => Plotly.relayout(holder, {"font.color": ink()}));
}
"""
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


class Page:
    """A document under construction; every method appends to it and escapes its arguments."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._body: list[str] = []
        self._sections: list[str] = []
        self._charts = 0

    def section(self, title: str) -> None:
        self._sections.append(title)
        self._body.append(f'<h2 id="s{len(self._sections)}">{text(title)}</h2>')

    def paragraph(self, content: str) -> None:
        self._body.append(f"<p>{text(content)}</p>")

    def key_figures(self, entries: Iterable[tuple[str, str, str]]) -> None:
        """(name, value, note) side by side."""
        items = (f"<li>{text(name)}<b>{text(value)}</b>{text(note)}</li>" for name, value, note in entries)
        self._body.append(f'<ul class="key">{"".join(items)}</ul>')

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1, fold: str = "") -> None:
        """``words`` leading columns hold text, the others numbers. fold: summary of a folded table, else empty."""
        marks = ["" if column < words else ' class="n"' for column in range(len(head))]
        top = "".join(f"<th{mark}>{text(name)}</th>" for mark, name in zip(marks, head, strict=True))
        body = "".join(
            f"<tr>{''.join(f'<td{mark}>{text(cell)}</td>' for mark, cell in zip(marks, row, strict=True))}</tr>"
            for row in rows
        )
        table = f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
        self._body.append(f"<details><summary>{text(fold)}</summary>{table}</details>" if fold else table)

    def charts(self, figures: Iterable[tuple[go.Figure, Explained]], columns: int = 1) -> None:
        """Figures in rows of 1, 2 or 3, each with its caption, its formula folded, and a label for screen readers."""
        cells = "".join(self._chart(figure, about, columns) for figure, about in figures)
        self._body.append(f'<div class="charts">{cells}</div>')

    def _chart(self, figure: go.Figure, about: Explained, columns: int) -> str:
        self._charts += 1
        name = f"chart-{self._charts}"
        more = "".join(
            [
                f"<p><code>{text(about.formula)}</code></p>" if about.formula else "",
                f"<p>Paper (arXiv 2605.09608): {text(about.source)}.</p>" if about.source else "",
            ]
        )
        fold = f"<details><summary>Formula and source</summary>{more}</details>" if more else ""
        # Only "<" can end a script element or open a comment in it.
        data = figure.to_json().replace("<", "\\u003c")
        return (
            f'<figure class="c{columns}"><div class="plot" id="{name}" role="img" style="height:{_height(figure)}px" '
            f'aria-label="{text(f"{about.title}. {about.line}")}"></div>'
            f'<script type="application/json" id="{name}-data">{data}</script>'
            f"<figcaption>{text(about.line)}{fold}</figcaption></figure>"
        )

    def document(self) -> str:
        """The whole file."""
        links = "".join(f'<a href="#s{i}">{text(name)}</a>' for i, name in enumerate(self._sections, start=1))
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{text(self.title)}</title><style>{_STYLE}</style></head><body>"
            f"<header><h1>{text(self.title)}</h1></header><nav>{links}</nav><main>{''.join(self._body)}</main>"
            f"<script>{get_plotlyjs()}</script><script>{_SCRIPT}</script></body></html>"
        )


def text(value: Any, limit: int = 2000) -> str:
    """``value`` as literal text, in an element or a quoted attribute; control characters become spaces."""
    printable = "".join(character if character.isprintable() else " " for character in str(value))
    return html.escape(printable if len(printable) <= limit else f"{printable[: limit - 1]}…")


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted name, value)."""
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        rows += flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", str(value))]
    return rows


def _height(figure: go.Figure) -> int:
    return int(figure.layout.height or 400)
