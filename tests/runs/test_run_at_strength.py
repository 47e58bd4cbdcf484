"""A run that takes an update at a strength: the run over an update whose tensors were multiplied, and what it says."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from gcwm_viz.cli import main
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.export.adapter import export_adapter
from gcwm_viz.export.checkpoint import export_step
from gcwm_viz.linalg.lowrank import LowRank, dense
from gcwm_viz.probes.live import LiveModel
from gcwm_viz.report.document import report
from gcwm_viz.runs.inputs import Inputs, inputs_of_run, open_inputs, reopen_inputs
from gcwm_viz.runs.run import continue_run, create_run
from gcwm_viz.runs.tables import open_run
from tests.checkpoints import tiny
from tests.export import runs
from tests.torture.small import NAMES, write_inputs

CPU = torch.device("cpu")
S = 0.33


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def run(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three updates, the second at a strength of 0.33."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert (
        main(["run", "--eta", "1", *arguments, "--strength", f"second={S}", "--workers", "1", "--out", str(out)]) == 0
    )
    return out


@pytest.fixture(scope="module")
def multiplied(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run over update files of which the second's tensors were multiplied by 0.33 beforehand."""
    root = tmp_path_factory.mktemp("multiplied")
    given = Path(next(each for each in arguments if each.startswith("second=")).partition("=")[2])
    tensors = {name: S * tensor for name, tensor in load_file(given / "update.safetensors").items()}
    (root / "second").mkdir()
    save_file(tensors, root / "second" / "update.safetensors", metadata={"gcwm_viz": "update"})
    changed = [f"second={root / 'second'}" if each.startswith("second=") else each for each in arguments]
    assert main(["run", "--eta", "1", *changed, "--workers", "1", "--out", str(root / "run")]) == 0
    return root / "run"


def test_bit_by_bit_the_run_over_multiplied_tensors(run: Path, multiplied: Path) -> None:
    """Matrices, signals, and the scores of base, experts and steps."""
    for folder in ("matrices", "probes"):
        files = sorted(path.name for path in (run / folder).iterdir())
        assert files == sorted(path.name for path in (multiplied / folder).iterdir())
        assert any("expert-002" in name for name in files) or folder == "matrices"
        for name in files:
            assert (run / folder / name).read_bytes() == (multiplied / folder / name).read_bytes(), name
    for file in (run / "tables").iterdir():
        ours, theirs = (pd.read_parquet(path / "tables" / file.name) for path in (run, multiplied))
        if file.stem == "updates":  # norms are those of other arithmetic: s²‖Δ‖² against ‖sΔ‖²
            ours, theirs = ours.drop(columns="path"), theirs.drop(columns="path")
            pd.testing.assert_frame_equal(ours, theirs, rtol=1e-6)
        else:
            pd.testing.assert_frame_equal(ours, theirs)


def test_another_strength_is_another_run(run: Path, arguments: list[str], tmp_path: Path) -> None:
    assert main(["run", "--eta", "1", *arguments, "--workers", "1", "--out", str(tmp_path / "whole")]) == 0
    ours, theirs = open_run(run), open_run(tmp_path / "whole")
    assert not torch.equal(ours.store.state(0, 2), theirs.store.state(0, 2))
    assert torch.equal(ours.store.state(0, 1), theirs.store.state(0, 1))
    norms = [one.tables["updates"].set_index("update")["norm"] for one in (ours, theirs)]
    assert (norms[0] / norms[1]).to_dict() == pytest.approx({"first": 1.0, "second": S, "third": 1.0})
    assert ours.tables["updates"]["strength"].tolist() == [1.0, S, 1.0]
    assert theirs.tables["updates"]["strength"].tolist() == [1.0, 1.0, 1.0]
    # A run without strengths is written as it always was.
    assert "strength" not in (theirs.path / "run.json").read_text()
    prints = [{entry.name: entry.fingerprint for entry in one.store.file.updates} for one in (ours, theirs)]
    assert {name for name in NAMES if prints[0][name] != prints[1][name]} == {"second"}


def test_adapters_stay_factored(tmp_path: Path) -> None:
    """And bit by bit the run over adapters whose left factors were multiplied; experts too."""
    index = runs.base(tmp_path, "llama")
    given, made = [], []
    for name, rank in (("a", 2), ("b", 4)):
        folder, _, _ = tiny.lora("llama", tmp_path / name, seed=rank, r=rank, lora_alpha=8, target_modules="all-linear")
        factors = {key: tensor * (S if "lora_B" in key else 1) for key, tensor in tiny.tensors(folder).items()}
        less = tiny.store(tmp_path / "less" / name, factors, "adapter_model.safetensors")
        shutil.copy(folder / "adapter_config.json", less)
        given.append((name, folder))
        made.append((name, less if name == "b" else folder))
    ours = Inputs(base=index.root, updates=given, strengths={"b": S})
    theirs = Inputs(base=index.root, updates=made)
    stores = [
        create_run(inputs, tmp_path / f"run{place}", RunSettings()) for place, inputs in enumerate((ours, theirs))
    ]
    for store in stores:
        continue_run(store, CPU, workers=1)
    live = [LiveModel(store, CPU) for store in stores]
    for place, key in enumerate(stores[0].keys):
        assert isinstance(stores[0].stored_state(place, 2), LowRank)
        assert torch.equal(*(store.state(place, 2) for store in stores)), key.name
    for one, other in zip(*(model.updates(("expert", 2, "b")) for model in live), strict=True):
        assert isinstance(one, LowRank)
        assert other is not None
        assert torch.equal(one.dense(), dense(other))


def test_what_comes_after_a_merge_agrees(run: Path, multiplied: Path, tmp_path: Path) -> None:
    """Attribution, restoration and exports."""
    tables, checkpoints = [], []
    for path in (run, multiplied):
        copy = tmp_path / f"{path.parent.name}-copy"
        shutil.copytree(path, copy)
        assert main(["attribute", str(copy), "--to", "2", "--no-interpolation", "--workers", "1"]) == 0
        tables.append(open_run(copy).tables["attribution"])
        store = RunStore.open(copy)
        checkpoints.append(tiny.tensors(export_step(store, 3, tmp_path / f"{copy.name}-model")))
        restored = tmp_path / f"{copy.name}-restored"
        assert main(["restore", str(copy), "--step", "2", "--worst", "2", "--out", str(restored)]) == 0
        checkpoints.append(tiny.tensors(restored))
    pd.testing.assert_frame_equal(tables[0], tables[1])
    for place in (0, 1):
        assert checkpoints[place].keys() == checkpoints[place + 2].keys()
        for name, tensor in checkpoints[place].items():
            assert torch.equal(tensor, checkpoints[place + 2][name]), name
    export_adapter(RunStore.open(run), 3, tmp_path / "adapter", 2)
    assert f"strength: {S}" in (tmp_path / "adapter" / "README.md").read_text()


def test_resume_refuses_another_strength(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run" / "run.json"
    content = json.loads(file.read_text())
    assert content["updates"][1]["strength"] == S
    assert ["strength" in entry for entry in content["updates"]] == [False, True, False]
    assert main(["resume", str(tmp_path / "run"), "--device", "cpu"]) == 0

    def resumed(**changes: Any) -> str:
        edited = json.loads(json.dumps(content))
        edited["updates"][1] = {k: v for k, v in edited["updates"][1].items() if k != "strength"} | changes
        file.write_text(json.dumps(edited))
        capsys.readouterr()
        assert main(["resume", str(tmp_path / "run"), "--device", "cpu"]) == 2
        return capsys.readouterr().err

    assert "second or its strength, 0.5 now, has changed since run" in resumed(strength=0.5)
    assert "second has changed since run" in resumed()
    wrong = "updates[1].strength, expected a number above 0 and at most 10"
    for value in (0, 11, "0.5", None, True):
        assert wrong in resumed(strength=value)


def test_a_run_gives_its_inputs_back(run: Path) -> None:
    store = RunStore.open(run)
    assert store.file.strengths == {"second": S}
    assert [source.strength for source in reopen_inputs(store).sources] == [1.0, S, 1.0]
    fewer = open_inputs(inputs_of_run(store.file, ["second", "third"]))
    assert [(source.name, source.strength) for source in fewer.sources] == [("second", S), ("third", 1.0)]


def test_a_plan_says_it_and_the_command_line_replaces_it(
    run: Path, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = dict(each.split("=", 1) for each in arguments if "=" in each)
    updates: list[dict[str, Any]] = [{"name": name, "path": folders[name]} for name in NAMES]
    updates[1]["strength"] = S
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump({"base": arguments[1], "updates": updates, "settings": {"eta": 1}}))
    assert main(["run", "--plan", str(file), "--device", "cpu", "--out", str(tmp_path / "planned")]) == 0
    planned = RunStore.open(tmp_path / "planned")
    assert planned.file.updates == RunStore.open(run).file.updates
    assert torch.equal(planned.state(0, 3), RunStore.open(run).state(0, 3))
    capsys.readouterr()
    asked = ["check", "--plan", str(file), "--device", "cpu"]
    assert main([*asked, "--strength", "third=2", "--json"]) == 0
    assert [row["strength"] for row in json.loads(capsys.readouterr().out)["updates"]] == [1.0, S, 2.0]
    assert main([*asked, "--strength", "second=1"]) == 0
    assert "strength" not in capsys.readouterr().out
    assert main(asked) == 0
    assert "second (delta at strength 0.33): " in capsys.readouterr().out


def test_who_looks_at_the_run_reads_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(run)]) == 0
    assert "updates taken at a strength: second 0.33\n" in capsys.readouterr().out
    assert "delta, taken at strength 0.33" in report(open_run(run))


def test_a_sweep_keeps_strengths_by_name(arguments: list[str], tmp_path: Path, capsys: Any) -> None:
    swept = ["sweep", *arguments[: 2 + 2 * len(NAMES)], "--device", "cpu", "--workers", "1", "--orders", "2"]
    swept += ["--method", "task-arithmetic", "--out", str(tmp_path / "sweep")]
    assert main([*swept, "--strength", f"second={S}"]) == 0
    made = [RunStore.open(path.parent) for path in sorted((tmp_path / "sweep").glob("*/run.json"))]
    assert len({tuple(store.updates) for store in made}) == 2
    assert all(store.file.strengths == {"second": S} for store in made)
    torch.testing.assert_close(*(store.state(0, 3) for store in made))
    assert main(swept) == 2
    assert "updates" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["nobody=0.5"], "a strength is given for 'nobody', expected one of the updates first, second, third"),
        (["second=0.5", "second=1"], "--strength names an update twice, expected one strength for each"),
        (["second=0"], "update 'second': expected its strength as a number above 0 and at most 10, found '0.0'"),
        (["second=ten"], "update 'second': expected its strength as a number above 0 and at most 10, found 'ten'"),
        (["second=nan"], "found 'nan'"),
        (["0.5"], "expected NAME=S, got '0.5'"),
    ],
)
def test_errors_are_one_sentence(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], says: str
) -> None:
    options = [part for each in given for part in ("--strength", each)]
    try:
        code = main(["run", *arguments, *options, "--out", str(tmp_path / "run")])
    except SystemExit as error:  # of the parser
        code = int(str(error.code))
    assert code == 2
    assert says in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_states_of_a_pipeline_have_none(arguments: list[str], run: Path, tmp_path: Path) -> None:
    inputs = inputs_of_run(RunStore.open(run).file)
    states = [path for _, path in inputs.updates]
    described = Inputs(base=inputs.base, updates=inputs.updates, strengths={"first": 0.5}, states=states)
    with pytest.raises(InputError, match="described, not merged: expected no strength beside them"):
        create_run(described, tmp_path / "run", RunSettings())
