"""The figures of a run in a notebook are those of its tables, and a wrong choice names the right ones."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import gcwm_viz
from gcwm_viz.errors import InputError
from gcwm_viz.figures.layer_grid import grid_axes, pivot
from tests.factories_runs import FAMILIES, NASTY, TASKS, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> gcwm_viz.Run:
    root = tmp_path_factory.mktemp("runs")
    write_run(root, "normal")
    return gcwm_viz.open_run(root / "normal")


def test_the_map_has_the_values_of_the_table(run: gcwm_viz.Run) -> None:
    matrices = run.tables["matrices"]
    for step in (None, 2):
        cells = matrices[matrices["step"] == (step or 6)]
        for signal in ("active_conflict", "overcount"):
            drawn = run.conflict(signal, step).data[0]
            np.testing.assert_array_equal(
                np.asarray(drawn.z, dtype=float), pivot(cells, signal, grid_axes(matrices)), strict=False
            )


def test_scores_are_those_of_the_test_split(run: gcwm_viz.Run) -> None:
    table = run.tables["scores"]
    rows = table[(table["split"] == "test") & (table["model"] == "step") & (table["metric"] == "em")]
    figure = run.scores()
    values = rows.pivot(index="step", columns="task", values="value")[list(figure.layout.xaxis.ticktext)]
    after_base = np.asarray(figure.data[0].z, dtype=float)[1:7]
    np.testing.assert_array_equal(after_base, values.to_numpy(dtype=float))


def test_every_figure_is_drawn(run: gcwm_viz.Run) -> None:
    figures = [run.overview(), run.gate(3), run.spectra(1, "q_proj"), run.solver(0, "o_proj", 2), run.retention(),
               run.where()]  # fmt: skip
    assert all(len(figure.data) and figure.layout.title.text for figure in figures)


def test_where_is_the_task_that_lost_most(run: gcwm_viz.Run) -> None:
    assert run.where(TASKS[0], 6, start=0).layout.title.text.startswith(TASKS[0])
    table = run.tables["attribution"]
    steps = table[(table["start"] == table["step"] - 1) & (table["split"] == "dev")]
    order = {task: number for number, task in enumerate(run.updates, start=1)}
    earlier = steps[steps["task"].map(order) < steps["step"]]
    worst = earlier.iloc[int(np.argmax(earlier["change"].astype(float).to_numpy()))]
    title = run.where().layout.title.text
    assert title.startswith(worst["task"])
    assert str(worst["step"]) in title


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda run: run.conflict("conflicts"), "no signal 'conflicts'; there are"),
        (lambda run: run.conflict(step=7), "no step 7; there are 1, 2, 3, 4, 5, 6"),
        (lambda run: run.conflict(step=0), "no step 0; there are 1, 2, 3, 4, 5, 6"),
        (lambda run: run.where(step=0), "the path -1 → 0 is not attributed; there are 0 → "),
        (lambda run: run.spectra(9, "q_proj"), "no layer 9; there are 0, 1, 2, 3"),
        (lambda run: run.solver(0, "router"), f"no family 'router'; there are {', '.join(FAMILIES)}"),
        (lambda run: run.scores("train"), "no split 'train'; there are"),
        (lambda run: run.scores(metric="bleu"), "no metric 'bleu'; there are em"),
        (lambda run: run.where("poetry"), "no task 'poetry'; there are"),
        (lambda run: run.where(start=4, step=2), "the path 4 → 2 is not attributed; there are 0 → "),
    ],
)
def test_a_wrong_choice_names_the_right_ones(
    run: gcwm_viz.Run, draw: Callable[[gcwm_viz.Run], object], words: str
) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        draw(run)


def test_what_is_not_computed_names_its_command(tmp_path: Path) -> None:
    write_run(tmp_path, "empty")
    empty = gcwm_viz.open_run(tmp_path / "empty")
    for draw, words in ((empty.conflict, "gcwm-viz resume"), (empty.where, "gcwm-viz attribute"),
                        (empty.scores, "gcwm-viz score")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            draw()
    assert "No step is finished yet" in empty._repr_html_()


def test_a_table_that_comes_later_is_read(tmp_path: Path) -> None:
    write_run(tmp_path, "normal")
    file = tmp_path / "normal" / "attribution" / "tables" / "attribution.parquet"
    whole = file.read_bytes()
    file.unlink()
    run = gcwm_viz.open_run(tmp_path / "normal")
    assert run.tables["attribution"].empty
    file.write_bytes(whole)
    assert len(run.where().data)


def test_it_shows_itself_as_text_and_not_as_markup(tmp_path: Path) -> None:
    write_run(tmp_path, "nan")
    shown = gcwm_viz.open_run(tmp_path / "nan")._repr_html_()
    assert NASTY not in shown
    assert "&lt;b&gt;bold&lt;/b&gt;" in shown
    assert shown.count("<li>") == 5


def test_a_merged_matrix_shows_what_was_decided() -> None:
    updates = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    merge = gcwm_viz.merge_layer(updates)
    shown = merge._repr_html_()
    assert f"<td>{merge.alpha:.3f}</td>" in shown
    assert f"<td>{merge.mode}</td>" in shown
    assert "<td>6 × 5</td>" in shown
