"""Cells carry their numbers, or show them on hover where there are too many."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from gcwm_viz.figures.number_grid import number_grid

Z = np.array([[0.1, np.nan], [0.9, 0.5]])


def grid(z: NDArray[np.float64] = Z, **settings: Any) -> go.Figure:
    rows, columns = ([f"{name}{k}" for k in range(n)] for name, n in zip("rc", z.shape, strict=True))
    defaults: dict[str, Any] = {"height": 200, "limits": (0.0, 1.0)}
    return number_grid("title", z, rows, columns, lambda i, j: f"{rows[i]} {columns[j]}", **(defaults | settings))


def test_every_defined_cell_has_its_number_and_its_words() -> None:
    made = grid()
    numbers = made.data[-1]
    assert numbers.mode == "text"
    assert list(numbers.text) == ["0.100", "", "0.900", "0.500"]
    assert list(numbers.hovertext) == ["r0 c0", "r0 c1", "r1 c0", "r1 c1"]
    assert [trace.name for trace in made.data].count("undefined") == 2
    assert made.layout.yaxis.range == (1.5, -0.5)  # first row on top


def test_ink_reads_on_either_end_of_the_scale_and_of_its_reverse() -> None:
    ink = grid().data[-1].textfont.color
    assert ink[0] != ink[2]
    assert grid(reversescale=True).data[-1].textfont.color[0] == ink[2]


def test_many_columns_show_their_numbers_on_hover() -> None:
    wide = np.ones((1, 13))
    assert grid(wide).data[-1].mode == "markers"
    assert grid(wide, most=None).data[-1].mode == "text"


def test_framed_cells_are_outlined() -> None:
    shapes = grid(framed=[(1, 0)]).layout.shapes
    assert {(shape.x0, shape.y0) for shape in shapes} == {(-0.5, 0.5)}
