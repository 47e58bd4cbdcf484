"""Bars of what flipped, and the loss of one example."""

from typing import Any

import numpy as np
import pandas as pd

from gcwm_viz.figures import example_loss
from gcwm_viz.figures.flips import ABOUT, flips
from gcwm_viz.runs import examples
from tests.factories_runs import NASTY

NAN = float("nan")


def table(values: list[list[float]], task: str = "a", metric: str = "em") -> pd.DataFrame:
    """Rows of ``example_table`` with these values by state."""
    array = np.array(values)
    flipped = examples.statuses(array, [not np.isnan(state).all() for state in array.T])
    frame = pd.DataFrame({"task": task, "metric": metric}, index=range(len(values)))
    for step in range(1, array.shape[1]):
        frame[f"status_{step}"] = flipped[:, step] if metric == "em" else "loss only"
    return frame


def bars(figure: Any) -> dict[str, list[float]]:
    return {trace.name: list(trace.y) for trace in figure.data}


def test_lost_points_down_and_tasks_add_up() -> None:
    first = table([[0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 1]])
    second = table([[0, 1, 1, 1]], "b")
    both = examples.flips(pd.concat([first, second]))
    figure = flips(both, ["x", "y", "z"], chosen_step=2)
    assert list(figure.data[0].x) == [1, 2, 3]
    assert bars(figure) == {"learned": [2, 0, 1], "regained": [0, 0, 1], "lost": [0, -2, 0]}
    assert bars(flips(both[both["task"] == "b"], ["x", "y", "z"]))["learned"] == [1, 0, 0]
    assert figure.layout.shapes[0].x0 == 2
    assert figure.data[2].customdata.tolist() == [[0, 4], [2, 4], [0, 4]]
    assert "examples" in figure.layout.yaxis.title.text


def test_steps_without_scores_have_no_bar() -> None:
    figure = flips(examples.flips(table([[1, NAN, 0], [0, NAN, 1]])), ["x", "y"], chosen_step=1)
    assert list(figure.data[0].x) == [2]
    assert not figure.layout.shapes


def test_nothing_to_draw_says_why() -> None:
    loss = flips(examples.flips(table([[1, 2]], metric="nll")), ["x"])
    assert "neither right nor wrong" in loss.layout.annotations[0].text
    unknown = flips(examples.flips(table([[NAN, NAN]])), ["x"])
    assert "No step was scored" in unknown.layout.annotations[0].text


def test_names_are_text() -> None:
    figure = flips(examples.flips(table([[0, 1]])), [NASTY])
    assert "<b>bold" not in figure.to_json()
    assert ABOUT.title == figure.layout.title.text


def test_the_loss_marks_what_was_right() -> None:
    figure = example_loss.example_loss([2.0, 0.1, NAN], [0.0, 1.0, NAN], 0.05)
    (line,) = figure.data
    assert list(line.marker.symbol) == ["circle-open", "circle", "circle-open"]
    assert list(line.x) == [0, 1, 2]
    assert figure.layout.shapes[0].y0 == 0.05
    assert not example_loss.example_loss([2.0, 0.1], [0.0, 1.0], NAN).layout.shapes
    assert "no loss" in example_loss.example_loss([NAN], [NAN], NAN).layout.annotations[0].text
