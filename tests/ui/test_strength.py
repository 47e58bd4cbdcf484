"""Other strengths of the merge, on their page and where the overview points; strengths of updates beside them."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from streamlit.testing.v1 import AppTest

from gcwm_viz.probes.stored import STRENGTHS
from gcwm_viz.report.story import story
from gcwm_viz.runs.tables import open_run
from tests.factories_runs import TASKS, write_run


def with_strengths(folder: Path, right_at_half: float) -> None:
    """A run whose tasks have 40 development examples, right at half the strength or nowhere."""
    run = open_run(folder)
    folder.joinpath("probes").mkdir(exist_ok=True)
    rows = []
    for factor in sorted([*STRENGTHS, 1.0]):
        values = [right_at_half if factor == 0.5 else 0.0] * 30 + [0.0] * 10
        name = f"step-{run.steps:03d}" if factor == 1.0 else f"strength-{STRENGTHS.index(factor) + 1:03d}"
        examples = [[task, "dev", {"em": values}] for task in TASKS]
        content = {"scores": [], "representation": [], "examples": examples}
        (folder / "probes" / f"{name}.json").write_text(json.dumps(content))
        mean = sum(values) / 40
        rows += [
            {"strength": factor, "task": task, "metric": "em", "value": mean, "se": 0.05, "n": 40} for task in TASKS
        ]
    pd.DataFrame(rows).to_parquet(folder / "tables" / "strength.parquet")


def words(app: AppTest) -> str:
    return "\n".join(str(element.value) for kind in (app.info, app.caption, app.markdown) for element in kind)


def test_a_clearly_better_strength_is_said_on_both_pages(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    run = write_run(tmp_path, "normal", "a")
    with_strengths(run, 1.0)
    app = open_page("pages/16_Strength.py", root=tmp_path, run="a")
    assert not app.exception
    assert "0.5 times the merged update scores 0.750 exact match" in words(app)
    assert any("Strength of the merge" in element.proto.spec for element in app.get("plotly_chart"))
    last = story(open_run(run))[-1]
    assert last.page == "Strength"
    assert "--set eta=" in last.text


def test_no_better_strength_is_said_too_and_none_tried_shows_nothing(
    open_page: Callable[..., AppTest], tmp_path: Path
) -> None:
    with_strengths(write_run(tmp_path, "normal", "a"), 0.0)
    write_run(tmp_path, "normal", "b")
    app = open_page("pages/16_Strength.py", root=tmp_path, run="a")
    assert "No other strength scores clearly better" in words(app)
    assert "times the merged update" not in story(open_run(tmp_path / "a"))[-1].text
    app = open_page("pages/16_Strength.py", root=tmp_path, run="b")
    assert not app.exception
    assert "No other strength of this merge was tried" in words(app)


def test_the_strength_of_an_update_stands_in_the_table_of_inputs(
    open_page: Callable[..., AppTest], tmp_path: Path
) -> None:
    file = write_run(tmp_path, "normal", "a") / "run.json"
    write_run(tmp_path, "normal", "b")
    content = json.loads(file.read_text())
    content["updates"][1]["strength"] = 0.33
    file.write_text(json.dumps(content))
    tables = {name: open_page("app.py", root=tmp_path, run=name).dataframe[-1].value for name in ("a", "b")}
    assert list(tables["a"]["strength"][:3]) == [1.0, 0.33, 1.0]
    assert "strength" not in tables["b"]


def test_where_the_run_chose_eta_the_page_says_so(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    run = write_run(tmp_path, "normal", "a")
    with_strengths(run, 1.0)
    file = run / "run.json"
    content = json.loads(file.read_text())
    eta = content["settings"]["continual"]["eta"]
    file.write_text(json.dumps(content | {"eta_tried": [eta * factor for factor in sorted([*STRENGTHS, 1.0])]}))
    app = open_page("pages/16_Strength.py", root=tmp_path, run="a")
    assert not app.exception
    assert f"η = {eta:g} was chosen on these probes, the best of 5 that were tried" in words(app)
    assert "times the merged update scores" not in words(app)
    (figure,) = (e.proto.spec for e in app.get("plotly_chart") if "Strength of the merge" in e.proto.spec)
    layout = json.loads(figure)["layout"]
    assert layout["xaxis"]["title"]["text"] == "η"
    assert layout["xaxis"]["ticktext"] == [f"{eta * factor:.2g}" for factor in sorted([*STRENGTHS, 1.0])]
    assert layout["shapes"][0]["x0"] == eta
