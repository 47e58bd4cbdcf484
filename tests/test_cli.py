"""The command line from a user's side: exit codes, sentences, nothing half-written."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gcwm_viz import open_run
from gcwm_viz.cli import main
from tests.continual.inputs import write_base, write_updates
from tests.torture.small import write_inputs


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    base = write_base(tmp_path / "base")
    updates = write_updates(tmp_path / "updates", "abc", absent=("b", "self_attn.q_proj"))
    listed = [part for name, path in updates for part in ("--update", f"{name}={path}")]
    return ["--base", str(base), *listed, "--device", "cpu"]


def run(arguments: list[str], out: Path, *more: str) -> int:
    return main(["run", *arguments, "--out", str(out), *more])


def test_run_check_export(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *arguments]) == 0
    said = capsys.readouterr().out
    assert "b (delta): 6 matrices, 2 missing" in said
    assert "GB of memory" in said
    assert "method gcwm: sees no probes, the updates alone\nη: 0.7" in said
    assert run(arguments, tmp_path / "run", "--preset", "paper", "--set", "iters=5", "--set", "eta=1.0") == 0
    assert main(["export", str(tmp_path / "run"), "--step", "3", "--out", str(tmp_path / "merged")]) == 0
    base, merged = (
        load_file(tmp_path / "base" / "model.safetensors"),
        load_file(tmp_path / "merged" / "model.safetensors"),
    )
    store = open_run(tmp_path / "run").store
    for index, key in enumerate(store.keys):
        state = store.state(index, 3)
        assert torch.equal(merged[key.name], base[key.name] + state)
    assert torch.equal(merged["model.embed_tokens.weight"], base["model.embed_tokens.weight"])
    card = (tmp_path / "merged" / "README.md").read_text()
    assert "library_name: transformers" in card.split("---")[1]
    assert "    preset: paper" in card or "      preset: paper" in card


def test_absent_matrices_are_nan_with_a_reason(arguments: list[str], tmp_path: Path) -> None:
    assert run(arguments, tmp_path / "run") == 0
    rows = open_run(tmp_path / "run").tables["matrices"]
    absent = rows[(rows["family"] == "q_proj") & (rows["step"] == 2)]
    assert (absent["active"] == 1).all()
    assert absent["incoming_conflict"].isna().all()
    assert absent["reason"].str.contains("update b does not touch this matrix").all()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--set", "kapa=3"], "unknown setting 'kapa'"),
        (["--set", "energy=1.5"], "setting energy"),
        (["--set", "rank"], "key=value"),
        (["--preset", "pape"], "preset must be one of"),
        (["--method", "magic"], "method must be one of"),
        (["--device", "cuda:77"], "device 'cuda:77' is not usable here"),
        (["--update", "a=/nowhere"], "/nowhere"),
        (["--probes", "/nowhere"], "/nowhere"),
        (["--state", "/nowhere"], "expected one state for each of 3 updates, found 1"),
    ],
)
def test_mistakes_end_in_one_sentence_and_exit_code_2(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert run(arguments, tmp_path / "run", *more) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_nan_in_an_update_is_named_and_finished_matrices_are_kept(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "updates" / "c" / "update.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(tensors, file, metadata={"gcwm_viz": "update"})
    assert run(arguments, tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert "model.layers.1.mlp.up_proj.weight" in said
    assert str(file) in said
    run_folder = open_run(tmp_path / "run")
    assert 0 < len(run_folder.store.finished()) < len(run_folder.store.keys)
    assert run_folder.store.journal()[-1]["event"] == "error"


def test_resume_and_export_refuse_what_is_not_there(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["resume", str(tmp_path / "nothing")]) == 2
    assert "is not a run folder" in capsys.readouterr().err
    assert run(arguments, tmp_path / "run") == 0
    assert main(["resume", str(tmp_path / "run"), "--device", "cpu"]) == 0
    capsys.readouterr()
    assert main(["export", str(tmp_path / "run"), "--step", "4", "--out", str(tmp_path / "x")]) == 2
    assert "step must be 1 to 3" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "run"), "--step", "1", "--out", str(tmp_path / "run" / "x")]) == 2
    assert "lies inside the input" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_usage_errors_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["run", "--base", "x", "--update", "no-equals-sign", "--out", "y"])
    assert stop.value.code == 2
    assert "expected NAME=DIR" in capsys.readouterr().err


def test_methods_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    assert capsys.readouterr().out.startswith("gcwm ")


def test_settings_are_recorded(arguments: list[str], tmp_path: Path) -> None:
    assert run(arguments, tmp_path / "run", "--set", "policy=current_anchor", "--set", "mu_rel=0.5") == 0
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert settings["continual"]["policy"] == "current_anchor"
    assert settings["gcwm"]["mu_rel"] == 0.5


def test_show_without_scores_prints_conflict_and_gate(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments, tmp_path / "run") == 0
    capsys.readouterr()
    assert main(["show", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    steps = open_run(tmp_path / "run").tables["steps"]
    assert "no scores" in said
    assert f"{steps['conflict'].iloc[-1]:.3f}" in said
    assert f"{steps['alpha'].iloc[-1]:.3f}" in said
    assert main(["show", str(tmp_path / "run"), "--split", "dev"]) == 2
    assert "has no scores" in capsys.readouterr().err


def test_show_takes_the_split_that_is_there_and_names_it_where_another_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write_inputs(tmp_path)
    shutil.rmtree(tmp_path / "probes" / "test")
    (tmp_path / "probes" / "dev" / "second.jsonl").rename(tmp_path / "probes" / "dev" / "other.jsonl")
    for name in ("first", "third"):
        (tmp_path / "probes" / "dev" / f"{name}.jsonl").unlink()
    assert main(["run", *arguments, "--workers", "1", "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert main(["show", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "em on dev" in said
    assert "No probe task bears an update's name (first, second, third)" in said
    assert main(["show", str(tmp_path / "run"), "--split", "test"]) == 2
    assert "has scores on dev, got --split test" in capsys.readouterr().err


def test_a_run_prints_what_its_headers_and_its_weights_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = write_inputs(tmp_path)
    file = tmp_path / "first" / "update.safetensors"
    tensors = load_file(file)
    tensors["model.embed_tokens.weight"] = torch.ones(
        load_file(tmp_path / "base" / "model.safetensors")["model.embed_tokens.weight"].shape
    )
    save_file(tensors, file, metadata={"gcwm_viz": "update"})
    assert main(["run", *arguments, "--workers", "1", "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "note: first: 1 tensors outside the target matrices" in said
    assert "of its energy lies outside the target matrices" in said


def test_notes_of_names_that_end_alike_stay_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = write_inputs(tmp_path)
    for folder, name in (("first", "code"), ("second", "encode")):
        arguments[arguments.index(f"{folder}={tmp_path / folder}")] = f"{name}={tmp_path / folder}"
    shape = load_file(tmp_path / "base" / "model.safetensors")["model.embed_tokens.weight"].shape
    for folder in ("first", "second"):
        file = tmp_path / folder / "update.safetensors"
        tensors = load_file(file) | {"model.embed_tokens.weight": torch.ones(shape)}
        save_file(tensors, file, metadata={"gcwm_viz": "update"})
    assert main(["run", *arguments, "--workers", "1", "--out", str(tmp_path / "run")]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if "of its energy lies outside" in line]
    assert [note.split(" of its")[0].rsplit(" ", 1)[0] for note in notes] == ["note: code:", "note: encode:"]


def test_a_chain_given_as_updates_is_said_by_check_and_by_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write_inputs(tmp_path)
    arguments = arguments[: arguments.index("--probes")]
    first, second = (load_file(tmp_path / name / "update.safetensors") for name in ("first", "second"))
    trained_on = {name: first[name] + 0.3 * second[name] for name in first}
    save_file(trained_on, tmp_path / "second" / "update.safetensors", metadata={"gcwm_viz": "update"})
    assert main(["check", *arguments, "--energy"]) == 0
    assert "warning: each seems to have been trained on from the one before: first → second" in capsys.readouterr().out
    assert main(["run", *arguments, "--workers", "1", "--out", str(tmp_path / "run")]) == 0
    assert "trained on from the one before: first → second" in capsys.readouterr().out


def write_states(root: Path) -> Path:
    """The states of a training as folders of update tensors, each relative to the base, in ``root``/out."""
    write_base(root / "base")
    updates = write_updates(root / "single", "abc")
    state: dict[str, torch.Tensor] = {}
    for step, (_, folder) in enumerate(updates, start=1):
        increment = load_file(folder / "update.safetensors")
        state = {name: tensor + state.get(name, 0) for name, tensor in increment.items()}
        (root / "out" / f"checkpoint-{10 * step}").mkdir(parents=True)
        file = root / "out" / f"checkpoint-{10 * step}" / "update.safetensors"
        save_file(state, file, metadata={"gcwm_viz": "update"})
    return root / "out"


def test_a_training_in_sequence_is_described_or_merged_by_its_increments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states = write_states(tmp_path)
    base = ["--base", str(tmp_path / "base")]
    assert main(["check", *base, "--sequence", str(states)]) == 0
    said = capsys.readouterr().out
    assert "note: checkpoint-10 … checkpoint-30 read as states: describe the training" in said
    assert "--read-as takes increments, experts instead" in said
    arguments = [*base, "--sequence", str(states), "--set", "keep=all"]
    assert run(arguments, tmp_path / "described") == 0
    described = open_run(tmp_path / "described").store
    assert [entry.name for entry in described.file.states] == ["state 1", "state 2", "state 3"]
    assert run([*arguments, "--read-as", "increments", "--method", "task-arithmetic"], tmp_path / "merged") == 0
    merged = open_run(tmp_path / "merged").store
    assert [entry.kind for entry in merged.file.updates] == ["delta", "increment", "increment"]
    last = load_file(states / "checkpoint-30" / "update.safetensors")
    for store in (described, merged):
        for index, key in enumerate(store.keys):
            # The sum of three increments in float32 is the last state but for its rounding.
            torch.testing.assert_close(store.state(index, 3), last[key.name], rtol=1e-5, atol=1e-6)
    capsys.readouterr()
    assert main(["check", *arguments, "--read-as", "experts"]) == 0
    assert "are by their names states of one training" in capsys.readouterr().out
    assert main(["check", *base, "--update", f"all={states}"]) == 2
    assert f"or give --sequence {states}" in capsys.readouterr().err
    assert main(["check", *base, "--update", f"all={states}", "--sequence", str(states)]) == 2
    assert "expected no --update and no --state beside it" in capsys.readouterr().err


def test_a_number_of_workers_is_at_least_one(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(arguments, tmp_path / "run", "--workers", "0")
    assert "expected a whole number of at least 1, got '0'" in capsys.readouterr().err


def loaded_by(*arguments: str) -> list[str]:
    """Which heavy libraries a command has loaded at its end."""
    script = (
        "import sys\n"
        "from gcwm_viz.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(*sorted({'torch', 'transformers', 'pandas', 'streamlit'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    return ended.stdout.splitlines()[-1].split()


def test_a_command_loads_what_it_needs(arguments: list[str]) -> None:
    assert loaded_by("--help") == []
    assert loaded_by("run", "--help") == []
    assert loaded_by("check", *arguments) == ["pandas", "torch"]
