"""Inputs on another file system, by fsspec's own in memory: the same fingerprints, tensors and results."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.location import is_remote, location, remote_bytes
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.cli import main
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.plan_file import parse_plan
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import dense
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from gcwm_viz.updates.matrices import target_matrices
from gcwm_viz.updates.sources import open_update
from tests.checkpoints import tiny
from tests.continual.inputs import write_base, write_updates
from tests.factories import generator
from tests.torture.small import contents

pytest.importorskip("upath", reason="universal-pathlib is not installed (the extra `remote`)")
CPU = torch.device("cpu")
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int32, torch.int8, torch.bool)


@pytest.fixture
def memory() -> Iterator[str]:
    """An empty file system of this process, and its URL; a forked worker has a copy."""
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    yield "memory://models"
    if store.exists("/models"):
        store.rm("/models", recursive=True)


def upload(folder: Path, url: str) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            place = location(f"{url}/{file.relative_to(folder).as_posix()}")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.read_bytes())


def test_tensors_and_rows_of_them_are_the_bytes_of_the_file(tmp_path: Path, memory: str) -> None:
    rng = generator(5)
    tensors = {str(dtype): (10 * torch.randn(7, 3, generator=rng)).to(dtype) for dtype in DTYPES}
    tensors |= {"empty": torch.zeros(0, 4), "scalar": torch.tensor(2.5)}
    save_file(tensors, tmp_path / "model.safetensors")
    location(memory).mkdir(exist_ok=True)
    upload(tmp_path, memory)
    here, there = CheckpointIndex.open(tmp_path), CheckpointIndex.open(memory)
    assert here.fingerprint() == there.fingerprint()
    assert is_remote(there.tensors["scalar"].path)
    for name in tensors:
        assert torch.equal(read_tensor(there.tensors[name]), tensors[name])
    for rows in (slice(0, 3), slice(2, 7), slice(3, 3)):
        for name in map(str, DTYPES):
            assert torch.equal(read_tensor(there.tensors[name], rows), tensors[name][rows])


def test_a_matrix_is_read_as_its_own_bytes_alone(tmp_path: Path, memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from gcwm_viz.checkpoints import reader

    read: list[int] = []
    genuine = remote_bytes

    def watched(path: Path, start: int, count: int) -> bytes:
        read.append(count)
        return genuine(path, start, count)

    monkeypatch.setattr(reader, "remote_bytes", watched)
    save_file({"a": torch.ones(50, 20), "b": torch.ones(50, 20)}, tmp_path / "model.safetensors")
    upload(tmp_path, memory)
    info = CheckpointIndex.open(memory).tensors["b"]
    read_tensor(info)
    read_tensor(info, slice(10, 12))
    assert read == [50 * 20 * 4, 2 * 20 * 4]


@pytest.mark.parametrize(("kind", "workers"), [("memory", 1), ("memory", 2), ("file", 2)])
def test_a_run_of_remote_inputs_has_the_results_of_local_ones(
    tmp_path: Path, memory: str, kind: str, workers: int
) -> None:
    base, updates = write_base(tmp_path / "base"), write_updates(tmp_path / "updates", "ab")
    local = create_run(Inputs(base=base, updates=updates), tmp_path / "local", RunSettings())
    continue_run(local, CPU, workers=1)
    url = memory if kind == "memory" else f"file://{tmp_path / 'elsewhere'}"
    upload(base, f"{url}/base")
    for name, folder in updates:
        upload(folder, f"{url}/{name}")
    arguments = ["--base", f"{url}/base", "--update", f"a={url}/a", "--update", f"b={url}/b"]
    out = tmp_path / "remote"
    assert main(["run", "--eta", "1", *arguments, "--device", "cpu", "--workers", str(workers), "--out", str(out)]) == 0
    named = ("run.json", "tables/updates.parquet")  # where the inputs lie
    kept = {name: content for name, content in contents(out).items() if name not in named}
    assert kept == {name: content for name, content in contents(local.path).items() if name not in named}
    info = json.loads((out / "run.json").read_text())
    assert info["base"]["path"] == f"{url}/base"
    assert info["base"]["fingerprint"] == local.file.base.fingerprint
    os.unlink(out / "matrices" / "00000.json")
    assert main(["resume", str(out), "--device", "cpu", "--workers", str(workers)]) == 0


def test_an_adapter_may_lie_elsewhere(tmp_path: Path, memory: str) -> None:
    base = tiny.save(tiny.model("qwen3"), tmp_path / "base")
    adapter, _, _ = tiny.lora("qwen3", tmp_path / "adapter", r=2, target_modules=["q_proj"])
    upload(base, f"{memory}/base")
    upload(adapter, f"{memory}/adapter")
    here: Any = open_update("a", adapter, CheckpointIndex.open(base))
    index = CheckpointIndex.open(f"{memory}/base")
    there: Any = open_update("a", f"{memory}/adapter", index)
    assert there.kind == here.kind == "adapter"
    assert there.fingerprint() == here.fingerprint()
    key = next(key for key in target_matrices(index) if key.family == "q_proj")
    assert torch.equal(dense(there.delta(key)), dense(here.delta(key)))


def test_a_plan_names_urls_and_keeps_them(memory: str) -> None:
    plan = parse_plan(f"base: {memory}/base\nupdates:\n- {{name: a, path: '{memory}/a'}}\n".encode(), "plan")
    assert str(plan.base) == f"{memory}/base"
    assert str(plan.updates[0][1]) == f"{memory}/a"
    assert parse_plan(plan.to_yaml().encode(), "again") == plan


def test_naming_a_url_asks_nobody(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from upath import UPath

    monkeypatch.setattr(UPath, "exists", lambda self: pytest.fail(f"{self} was looked up"))
    plan = parse_plan(b"base: http://127.0.0.1:9/b\nupdates:\n- {name: a, path: 'memory://models/a'}\n", "plan")
    assert str(plan.base) == "http://127.0.0.1:9/b"
    assert is_remote(location(f"{memory}/a"))


def test_faults_are_told_in_one_sentence(tmp_path: Path, memory: str, capsys: pytest.CaptureFixture[str]) -> None:
    upload(write_base(tmp_path / "base"), f"{memory}/base")
    with pytest.raises(InputError, match="expected a folder with safetensors weights, found nothing"):
        CheckpointIndex.open(f"{memory}/nothing")
    with pytest.raises(InputError, match=r"nowhere://a: cannot be reached \(Unsupported"):
        CheckpointIndex.open("nowhere://a")
    cut = location(f"{memory}/base/model.safetensors")
    whole = cut.read_bytes()
    index = CheckpointIndex.open(f"{memory}/base")
    cut.write_bytes(whole[:-40])
    with pytest.raises(InputError, match="truncated file"):
        CheckpointIndex.open(f"{memory}/base")
    last = max(index.tensors.values(), key=lambda info: info.offset)
    with pytest.raises(InputError, match=r"changed while in use, expected \d+ bytes, found"):
        read_tensor(last)
    with pytest.raises(SystemExit):
        main(["run", "--base", "nowhere://a", "--update", "a=b", "--out", str(tmp_path / "run")])
    assert "cannot be reached" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["run", "--base", "base", "--update", "a=b", "--out", f"{memory}/run"])
    assert "results need a folder on this machine or a mounted one, not a URL" in capsys.readouterr().err


def test_what_needs_local_files_says_so(tmp_path: Path, memory: str) -> None:
    from gcwm_viz.checkpoints.writer import export_checkpoint

    upload(write_base(tmp_path / "base"), f"{memory}/base")
    updates = write_updates(tmp_path / "updates", "a")
    inputs = Inputs(base=location(f"{memory}/base"), updates=updates, probes=tmp_path)
    with pytest.raises(InputError, match="needs it in a folder of this machine"):
        create_run(inputs, tmp_path / "run", RunSettings())
    base = CheckpointIndex.open(f"{memory}/base")
    with pytest.raises(InputError, match="an export, which copies the base's files, needs it in a folder"):
        export_checkpoint(base, lambda name: None, tmp_path / "out", model_card="")
