"""Charts pinned to the talk about a run: ``talk.json`` in its folder, read strictly, since a run may come from others.

A pin is a snapshot: the figure as it was drawn, what captions it, and the link to its page, without which it cannot be
drawn anew.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.checkpoints.header import read_json_object
from gcwm_viz.errors import InputError
from gcwm_viz.ui.page import PAGES

FILE = "talk.json"
MOST, LARGEST = 20, 2_000_000
"""Pins of a talk, and characters of one figure."""
_TRACES = ("bar", "heatmap", "scatter")
"""Those of our figures; others load maps or images."""
_MARKUP = re.compile(r'</?b>|<br>|<extra>|</extra>|<span style="(color:#[0-9A-Fa-f]{6}|font-size:\d+px)">|</span>')
"""What our figures have in their labels: no link among it."""
_LONGEST = 4_000


@dataclass(frozen=True)
class Pin:
    """``page``: its name. ``key``: of the chart on it. ``parameters``: of the link that selects what is drawn.
    ``title`` and ``line``: plain text. ``figure``: Plotly's JSON."""

    page: str
    key: str
    parameters: dict[str, str]
    title: str
    line: str
    figure: str

    def draw(self) -> go.Figure:
        """A fresh copy of the figure."""
        return plotly.io.from_json(self.figure)

    def same_chart(self, other: "Pin") -> bool:
        """Whether both are snapshots of one chart with one selection."""
        return (self.page, self.key, self.parameters) == (other.page, other.key, other.parameters)


def read(run: Path) -> list[Pin]:
    """The pins of a talk in their order; none where there is no file. Raises :class:`InputError` for a file that the
    app would not have written."""
    file = run / FILE
    try:
        stat = file.stat()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{file}: cannot read the pinned charts ({error.strerror or error})") from None
    return list(_read(file, stat.st_mtime_ns, stat.st_size))


def write(run: Path, pins: Sequence[Pin]) -> None:
    """Replace the file. Raises :class:`InputError` where the system refuses."""
    content = {"pins": [asdict(pin) | {"figure": json.loads(pin.figure)} for pin in pins]}
    write_bytes(run / FILE, json.dumps(content, ensure_ascii=False).encode())


def added(pins: Sequence[Pin], pin: Pin) -> list[Pin]:
    """``pins`` with one more at the end, or in the place of an earlier snapshot of the same chart. Raises
    :class:`InputError` where it is too large, or one too many."""
    if len(pin.figure) > LARGEST:
        raise InputError(f"This chart has {len(pin.figure):,} characters, and a pinned one at most {LARGEST:,}.")
    check(pin)
    if any(pin.same_chart(own) for own in pins):
        return [pin if pin.same_chart(own) else own for own in pins]
    if len(pins) >= MOST:
        raise InputError(f"The talk has {MOST} pinned charts, which is the most: unpin one first.")
    return [*pins, pin]


@lru_cache(maxsize=2)
def _read(file: Path, stamp: int, size: int) -> tuple[Pin, ...]:
    del stamp, size
    what = "the file of pinned charts"
    listed = read_json_object(file, what).get("pins")
    if not isinstance(listed, list) or len(listed) > MOST:
        raise InputError(f"{file}: expected a list of at most {MOST} pins in {what}")
    pins = []
    for place, content in enumerate(listed, start=1):
        where = f"{file}: pin {place}"
        names = set(Pin.__dataclass_fields__)
        if not isinstance(content, dict) or content.keys() != names or not isinstance(content["figure"], dict):
            raise InputError(f"{where}: expected an object with {', '.join(sorted(names))}")
        pin = Pin(**content | {"figure": json.dumps(content["figure"])})
        try:
            check(pin)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        pins.append(pin)
    return tuple(pins)


def check(pin: Pin) -> None:
    """Raises :class:`InputError` for a pin whose texts or figure are none of the app's."""
    texts = (pin.page, pin.key, pin.title, pin.line)
    if not all(isinstance(text, str) and len(text) <= _LONGEST for text in texts) or pin.page not in PAGES.values():
        raise InputError("expected the name of a page, and texts of usual length")
    own = pin.parameters
    if not isinstance(own, dict) or len(own) > 40 or not all(map(_is_parameter, own.items())):
        raise InputError("expected parameters of a link")
    if len(pin.figure) > LARGEST:
        raise InputError(f"expected a figure of at most {LARGEST:,} characters")
    content = json.loads(pin.figure)
    data = content.get("data")
    if not content.keys() <= {"data", "layout"} or not isinstance(data, list):
        raise InputError("expected a figure of data and layout")
    if not all(isinstance(trace, dict) and trace.get("type") in _TRACES for trace in data):
        raise InputError(f"expected traces of the types {', '.join(_TRACES)}")
    for text in _texts(content):
        if "<" in _MARKUP.sub("", text):
            raise InputError(f"expected no markup in the figure, found {text[:80]!r}")
    try:
        plotly.io.from_json(pin.figure)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"expected a figure of Plotly: {str(error).strip().splitlines()[0][:200]}") from None


def _is_parameter(entry: tuple[Any, Any]) -> bool:
    return all(isinstance(text, str) and len(text) <= _LONGEST for text in entry)


def _texts(value: Any) -> Iterator[str]:
    """Every text of a figure. Raises :class:`InputError` for an image, which a browser would fetch."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            if "image" in key:
                raise InputError("expected no image in the figure")
            yield from _texts(each)
