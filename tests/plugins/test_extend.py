"""docs/extend.md as written: a method and a signal, each in one file, by the command line, two workers and resume."""

import io
import json
import re
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from gcwm_viz.cli import main
from gcwm_viz.plugins import loading
from gcwm_viz.plugins.loaded import loaded
from gcwm_viz.runs.tables import open_run
from tests.factories_study import write_study
from tests.plugins.conftest import plugins_apart
from tests.torture.small import NAMES, REPOSITORY, contents, write_inputs

GUIDE = (REPOSITORY / "docs" / "extend.md").read_text(encoding="utf-8")
BLOCKS: dict[str, str] = {
    re.findall(r'\A"""(\w+\.py)', code)[0]: code for code in re.findall(r"```python\n(.*?)```", GUIDE, re.S)
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugins")
    for name, code in BLOCKS.items():
        (folder / name).write_text(code)
    return folder


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


def command(*words: str | int | Path, expected: int = 0) -> str:
    """What ``gcwm_viz WORDS`` prints, in this process; a plug-in that it loads is gone afterwards."""
    said = io.StringIO()
    with plugins_apart(), redirect_stdout(said), redirect_stderr(said):
        code = main([str(word) for word in words])
    assert code == expected, said.getvalue()
    return said.getvalue()


def half(run: Path) -> None:
    """The run as a crash would leave it: every second matrix is not there, nor is what comes after."""
    for file in sorted((run / "matrices").glob("*.json"))[::2]:
        file.unlink()
    shutil.rmtree(run / "tables")


def test_the_guide_has_both_in_some_twenty_lines() -> None:
    assert set(BLOCKS) == {"majority.py", "stable_rank.py"}
    assert all(len(code.splitlines()) <= 30 for code in BLOCKS.values())


def test_a_method_is_one_file(files: Path, arguments: list[str], tmp_path: Path) -> None:
    plugin = ("--plugin", files / "majority.py")
    run = tmp_path / "run"
    command("run", *arguments, *plugin, "--method", "majority", "--set", "majority=1", "--workers", 2, "--out", run)
    written = contents(run)
    merged = load_file(run / "matrices" / "00000.safetensors")
    name = json.loads((run / "run.json").read_text())["matrices"][0]["name"]
    base = arguments[arguments.index("--base") + 1].removesuffix("base")
    deltas = torch.stack([load_file(f"{base}{update}/update.safetensors")[name] for update in NAMES])
    agree = deltas.sign().sum(0).abs() == 3
    torch.testing.assert_close(merged["merged.3"], torch.where(agree, deltas.mean(0), 0.0), rtol=1e-6, atol=1e-9)

    half(run)
    assert "of plug-in majority.py; expected --plugin with it" in command("resume", run, expected=2)
    command("resume", run, *plugin, "--workers", 2)
    assert contents(run) == written
    assert "majority " in command("methods", *plugin)
    assert "merged by majority of plug-in majority.py" in command("show", run, expected=2)


def test_a_signal_is_one_file(files: Path, arguments: list[str], tmp_path: Path) -> None:
    plugin = ("--plugin", files / "stable_rank.py")
    run = tmp_path / "run"
    command("run", *arguments[:-4], *plugin, "--workers", 2, "--out", run)
    written = contents(run)
    matrices = pd.read_parquet(run / "tables" / "matrices.parquet")
    shape = matrices[["d_out", "d_in"]].min(axis=1)
    assert ((matrices["stable_rank"] > 1) & (matrices["stable_rank"] <= shape)).all()
    steps = pd.read_parquet(run / "tables" / "steps.parquet")
    assert steps["stable_rank"].tolist() == pytest.approx(matrices.groupby("step")["stable_rank"].mean().tolist())
    assert "stable_rank" in command("show", run, *plugin)
    assert "stable_rank" not in command("show", run)  # a finished run opens without it

    half(run)
    assert "was started with plug-in stable_rank.py; expected --plugin" in command("resume", run, expected=2)
    command("resume", run, *plugin, "--workers", 2)
    assert contents(run) == written


def test_a_signal_has_a_heatmap_and_stands_in_explain(
    files: Path, arguments: list[str], tmp_path: Path, open_page: Any, no_plugins: None
) -> None:
    loading.load(str(files / "stable_rank.py"))
    command("run", *arguments[:-4], "--plugin", files / "stable_rank.py", "--out", tmp_path / "run")
    page = open_page("pages/1_Conflict.py", run="run", signal="stable_rank")
    assert not page.exception
    titles = [json.loads(chart.proto.spec)["layout"]["title"]["text"] for chart in page.get("plotly_chart")]
    assert "Stable rank" in " ".join(titles)
    out = tmp_path / "report.html"
    command("report", tmp_path / "run", "--plugin", files / "stable_rank.py", "--html", out)
    assert "Over how many directions the arriving update spreads" in out.read_text(encoding="utf-8")

    write_study(tmp_path, seeds=2)
    file = tmp_path / "study" / "tables" / "runs.parquet"
    runs = pd.read_parquet(file)
    runs["stable_rank"] = range(len(runs))
    runs.to_parquet(file)
    page = open_page("pages/11_Explain.py")
    assert not page.exception
    assert "Stable rank" in next(box for box in page.selectbox if box.label == "Signal").options


def test_a_changed_plug_in_is_refused(files: Path, arguments: list[str], tmp_path: Path) -> None:
    plugin = tmp_path / "stable_rank.py"
    shutil.copy(files / "stable_rank.py", plugin)
    run = tmp_path / "run"
    command("run", *arguments[:-4], "--plugin", plugin, "--workers", 1, "--out", run)
    half(run)
    plugin.write_text(plugin.read_text().replace("** 2)", "** 2 + 1e-9)"))
    said = command("resume", run, "--plugin", plugin, expected=2)
    assert f"plug-in stable_rank.py has changed since run {run} started" in said


def test_a_new_plug_in_does_not_enter_a_run_at_work(files: Path, arguments: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    command("run", *arguments[:-4], "--workers", 1, "--out", run)
    assert "plugins" not in json.loads((run / "run.json").read_text())
    half(run)
    said = command("resume", run, "--plugin", files / "stable_rank.py", expected=2)
    assert "was started without plug-in stable_rank.py" in said


def test_what_opens_a_run_loads_nothing(files: Path, arguments: list[str], tmp_path: Path, no_plugins: None) -> None:
    """A run folder, a plan or a checkpoint can name a plug-in and no more."""
    run = tmp_path / "run"
    command("run", *arguments[:-4], "--plugin", files / "stable_rank.py", "--workers", 1, "--out", run)
    open_run(run).tables["matrices"]
    assert loaded() == ()
