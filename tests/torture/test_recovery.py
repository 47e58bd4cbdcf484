"""Truncated, lost and foreign files in a run folder; two processes on one run."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gcwm_viz import open_run
from gcwm_viz.cli import main
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.export.checkpoint import export_step
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from tests.continual.inputs import write_base, write_updates
from tests.torture.small import contents, write_inputs

CPU = torch.device("cpu")


def small_inputs(root: Path) -> Inputs:
    return Inputs(base=write_base(root / "base"), updates=write_updates(root / "updates", "abc"))


def small_run(root: Path, run: Path) -> RunStore:
    return create_run(small_inputs(root), run, RunSettings())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run and its contents; tests work on copies."""
    root = tmp_path_factory.mktemp("finished")
    continue_run(small_run(root, root / "run"), CPU, workers=1)
    return root / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def resume(run: Path) -> None:
    continue_run(RunStore.open(run), CPU, workers=1)


@pytest.mark.parametrize(
    "name",
    [
        *("matrices/00003.safetensors", "matrices/00003.json", "tables/matrices.parquet", "tables/steps.parquet"),
        "journal.jsonl",
    ],
)
def test_a_file_cut_anywhere_is_recovered(
    finished: Path, run: Path, name: str, record: Callable[[str, str, str], None], torture: bool
) -> None:
    whole = (finished / name).read_bytes()
    generator = random.Random(name)
    cuts = sorted({0, 1, len(whole) - 1, *(generator.randrange(len(whole)) for _ in range(8 if torture else 1))})
    for cut in cuts:
        (run / name).write_bytes(whole[:cut])
        resume(run)
        assert contents(run) == contents(finished), cut
    record("Cut short, then resumed", f"{name} at {len(cuts)} places", "recovered, same bytes")


def test_deleted_files_are_made_again(finished: Path, run: Path, record: Callable[[str, str, str], None]) -> None:
    generator = random.Random(1)
    names = [name for name in contents(finished) if name != "run.json"]
    for count in (1, 3, len(names)):
        for name in generator.sample(names, count):
            (run / name).unlink()
        for folder in ("matrices", "tables"):
            (run / folder / ".left.partial").write_bytes(b"half")
            (run / folder / ".left.partial").unlink()
        resume(run)
        assert contents(run) == contents(finished)
    record("Files deleted, then resumed", f"up to all {len(names)} results", "computed again, same bytes")


@pytest.mark.parametrize("keep", ["all", "last"])
def test_whole_results_are_not_computed_again(tmp_path: Path, keep: str) -> None:
    store = create_run(small_inputs(tmp_path), tmp_path / "run", RunSettings.preset_with("scale-free", {"keep": keep}))
    continue_run(store, CPU, workers=1)
    (store.path / "matrices" / "00002.json").unlink()
    assert RunStore.open(store.path).discard_damaged() == []
    resume(store.path)
    events = [entry for entry in store.journal() if entry["event"] == "matrix"]
    assert len(events) == len(store.keys) + 1
    assert not any("damaged" in entry for entry in store.journal())


def test_leftover_temporary_files_do_no_harm(finished: Path, run: Path) -> None:
    for name in contents(finished):
        path = run / name
        (path.parent / f".{path.name}.partial").write_bytes(b"half a file")
    (run / "matrices" / "00001.json").unlink()
    (run / "tables" / "pairs.parquet").unlink()
    resume(run)
    after = {name: held for name, held in contents(run).items() if not name.endswith(".partial")}
    assert after == contents(finished)


def test_a_damaged_result_is_named_before_it_is_exported(run: Path, tmp_path: Path) -> None:
    file = run / "matrices" / "00003.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(InputError, match=r"00003\.safetensors is damaged .*resume computes it again"):
        export_step(RunStore.open(run), 3, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_foreign_folders_are_refused_by_name(run: Path, tmp_path: Path) -> None:
    def sentence(path: Path) -> str:
        with pytest.raises(InputError) as caught:
            open_run(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "is not a run folder" in sentence(tmp_path / "nothing")
    assert "is not a run folder" in sentence(tmp_path)
    info = json.loads((run / "run.json").read_text())
    for changed, says in (
        ({"schema": 2}, "has schema 2; this version reads schema 1"),
        ({"schema": "1"}, "has schema 1; this version"),
        ({"format": "other"}, "does not describe a run"),
        ({"matrices": [{}]}, r"matrices[0]"),
        ({"updates": "abc"}, "updates, expected a list"),
        ({"settings": info["settings"] | {"gcwm": {"rank": -1}}}, "setting rank"),
    ):
        (run / "run.json").write_text(json.dumps(info | changed))
        assert says in sentence(run)


@pytest.mark.parametrize(
    ("part", "name", "value", "says"),
    [
        ("gcwm", "rank", 3, "gcwm.rank was 16, is 3"),
        ("continual", "eta", 0.5, r"continual.eta was 1.0, is 0.5"),
        ("gcwm", "solver", "adam", "gcwm.solver was exact, is adam"),
    ],
)
def test_changed_settings_are_refused_by_name(run: Path, part: str, name: str, value: float | str, says: str) -> None:
    info = json.loads((run / "run.json").read_text())
    info["settings"][part][name] = value
    (run / "run.json").write_text(json.dumps(info))
    (run / "matrices" / "00000.json").unlink()
    with pytest.raises(InputError, match=f"with other settings than its run.json has now: {says}"):
        resume(run)


def test_changed_probes_are_refused_by_name(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    probes = tmp_path / "probes"
    inputs = Inputs(base=tmp_path / "base", updates=[("first", tmp_path / "first")], probes=probes)
    store = create_run(inputs, tmp_path / "run", RunSettings())
    (probes / "dev" / "first.jsonl").write_text('{"prompt": "x", "answer": "z"}\n')
    with pytest.raises(InputError, match="the probes have changed since run"):
        continue_run(store, CPU)


def test_lab_run_does_not_ignore_other_settings(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "run", "--out", str(run), "--set", "rank=5"]) == 2
    assert "gcwm.rank was 16, is 5" in capsys.readouterr().err


HOLD = """
import sys, time
from pathlib import Path
from gcwm_viz.continual.store import RunStore
with RunStore.open(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_processes_one_run_and_a_stale_lock(
    run: Path, capsys: pytest.CaptureFixture[str], record: Callable[[str, str, str], None]
) -> None:
    """The second is told who holds the run; once the holder is killed, its lock counts for nothing."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            assert main(["resume", str(run), "--device", "cpu"]) == 2
            assert f"is being written by process {holder.pid}" in capsys.readouterr().err
        finally:
            holder.kill()
    assert (run / "lock").read_text() == f"process {holder.pid}"
    assert RunStore.open(run).status() == "complete"
    assert main(["resume", str(run), "--device", "cpu", "--workers", "1"]) == 0
    record("Two processes on one run", "a holder, then its killed lock", "second told who holds it; stale lock taken")


def test_two_processes_creating_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second is refused, even when both found the folder empty."""
    from gcwm_viz.continual import store as module

    inputs = small_inputs(tmp_path)
    first = create_run(inputs, tmp_path / "run", RunSettings())
    calls = []
    real = module._refuse_occupied

    def late(path: Path) -> None:
        calls.append(path)
        if len(calls) > 1:  # the first look was before the other process wrote
            real(path)

    monkeypatch.setattr(module, "_refuse_occupied", late)
    with pytest.raises(InputError, match="use resume"):
        create_run(inputs, tmp_path / "run", RunSettings.preset_with("paper", {}))
    assert RunStore.open(first.path).settings == first.settings


def test_a_damaged_score_file_is_scored_again(tmp_path: Path) -> None:
    assert main(["run", *write_inputs(tmp_path / "inputs"), "--out", str(tmp_path / "run"), "--workers", "1"]) == 0
    expected = contents(tmp_path / "run")
    for name, damage in (("base-000.json", b'{"scores": ['), ("step-002.json", b"[]"), ("expert-001.json", b"")):
        (tmp_path / "run" / "probes" / name).write_bytes(damage)
    resume(tmp_path / "run")
    assert contents(tmp_path / "run") == expected


def test_a_config_that_claims_a_million_layers_builds_none_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write_inputs(tmp_path / "inputs")
    config = json.loads((tmp_path / "inputs" / "base" / "config.json").read_text())
    (tmp_path / "inputs" / "base" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 10**6}))
    assert main(["run", *arguments, "--out", str(tmp_path / "run"), "--workers", "1"]) == 2
    assert "num_hidden_layers is 1000000, the base has" in capsys.readouterr().err
