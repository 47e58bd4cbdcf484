"""The signals as Markdown, from their declarations: for the command ``methods``, docs/signals.md."""

from gcwm_viz.signals.catalogue import SIGNALS
from gcwm_viz.signals.signal import Signal

_HEAD = """# Signals

Written by `gcwm-viz methods --signals` from the declarations. A signal is one number per matrix and step: a column of
the table `matrices`, and of `steps` as the mean over matrices. NaN means undefined, and the column `reason` says why.
Equations, sections, algorithms and lemmas are those of arXiv 2605.09608. Every chart of the app has its formula under
"Formula and data"; a signal of your own is a declaration too: [extend.md](extend.md)."""
_MEASURED = "Of probe tasks, measured by `gcwm-viz lab study`"
_ALONE = "Without a map"


def markdown() -> str:
    """docs/signals.md: a table for each page that maps signals, and for those that none does."""
    groups: dict[str, list[Signal]] = {}
    for signal in SIGNALS.values():
        groups.setdefault(_group(signal), []).append(signal)
    return "\n\n".join([_HEAD, *(_table(title, signals) for title, signals in groups.items())])


def _group(signal: Signal) -> str:
    if signal.of is None:
        return _MEASURED
    return f"On the page {signal.page}" if signal.page else _ALONE


def _table(title: str, signals: list[Signal]) -> str:
    rows = [
        (f"`{each.column}`", f"**{each.title}.** {each.line}", each.meaning, each.range, each.source)
        for each in signals
    ]
    lines = [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows]
    head = ["| name | what it says | definition | range | source |", "|---|---|---|---|---|"]
    return "\n".join([f"## {title}", "", *head, *lines])
