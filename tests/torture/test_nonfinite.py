"""A NaN or an infinity, wherever it comes from: found, named, never exported."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gcwm_viz.cli import main
from gcwm_viz.continual import merges
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.result import process_matrix
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.export.checkpoint import export_step
from gcwm_viz.merging.merge import Merge
from gcwm_viz.merging.step import MergeStep
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from gcwm_viz.updates.matrices import MatrixKey
from tests.torture.small import contents
from tests.torture.test_recovery import small_inputs

CPU = torch.device("cpu")
KEY = MatrixKey("model.layers.0.self_attn.q_proj.weight", 0, "q_proj", (16, 12))
NAN, INF = float("nan"), float("inf")


def poison(file: Path, name: str, value: float) -> None:
    tensors = load_file(file)
    tensors[name][1, 2] = value
    save_file(tensors, file, metadata={"gcwm_viz": "update"} if file.name.startswith("update") else None)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_found_when_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: float, record: Callable[[str, str, str], None]
) -> None:
    inputs = small_inputs(tmp_path)
    file = tmp_path / "updates" / "b" / "update.safetensors"
    poison(file, KEY.name, value)
    store = create_run(inputs, tmp_path / "run", RunSettings())
    assert main(["resume", str(store.path), "--device", "cpu"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert str(file) in said
    assert KEY.name in said
    assert "(1, 2)" in said
    record("Non-finite input", f"{value} in an update", "named with file, tensor and place; nothing merged from it")


def test_found_after_the_merge(monkeypatch: pytest.MonkeyPatch, record: Callable[[str, str, str], None]) -> None:
    """A method that returns a NaN at step 2 ends the run there, with the matrix and the step named."""
    calls = []

    def faulty(step: MergeStep) -> Merge:
        calls.append(step)
        merged = torch.ones(step.shape)
        if len(calls) == 2:
            merged[3, 4] = NAN
        return Merge.of(merged)

    monkeypatch.setattr(merges, "get_method", lambda name: type("Method", (), {"merge": staticmethod(faulty)}))
    generator = torch.Generator().manual_seed(1)
    deltas = [torch.randn(16, 12, generator=generator) for _ in range(3)]
    with pytest.raises(InputError, match=r"q_proj\.weight': the merge of step 2 \(b\) holds NaN at \(3, 4\)"):
        process_matrix(KEY, ["a", "b", "c"], deltas, RunSettings())
    record("Non-finite after a merge", "a method that returns NaN at step 2", "named with matrix, step and place")


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e10, 1e18, 1e25, 1e37])
@pytest.mark.parametrize("preset", ["scale-free", "paper", "release"])
def test_any_scale_ends_finite_or_in_a_sentence(scale: float, preset: str) -> None:
    generator = torch.Generator().manual_seed(1)
    deltas = [scale * torch.randn(16, 12, generator=generator) for _ in range(3)]
    try:
        result = process_matrix(KEY, ["a", "b", "c"], deltas, RunSettings.preset_with(preset, {}))
    except InputError as error:
        assert KEY.name in str(error)  # noqa: PT017 (either outcome is right)
    else:
        assert all(bool(tensor.isfinite().all()) for tensor in result.tensors.values())


def test_never_exported(tmp_path: Path, record: Callable[[str, str, str], None]) -> None:
    """Found when stored results hold one, when the base does, and when a narrower type cannot hold the value."""
    inputs = small_inputs(tmp_path)
    store = create_run(inputs, tmp_path / "run", RunSettings())
    continue_run(store, CPU, workers=1)
    file = tmp_path / "run" / "matrices" / "00000.safetensors"
    tensors = load_file(file)
    good = file.read_bytes()
    for name in tensors:
        tensors[name][0, 0] = NAN
    save_file(tensors, file)
    with pytest.raises(InputError, match=r"q_proj\.weight.* holds NaN"):
        export_step(RunStore.open(store.path), 3, tmp_path / "out")
    file.write_bytes(good)
    tensors = load_file(file)
    for name in tensors:
        tensors[name][0, 0] = 1e6
    save_file(tensors, file)
    with pytest.raises(InputError, match="an infinite value"):
        export_step(RunStore.open(store.path), 3, tmp_path / "out", torch.float16)
    assert not (tmp_path / "out").exists()
    assert "out" not in {item.name for item in tmp_path.iterdir()}
    record("Non-finite before export", "in results, and by float16 overflow", "named, no file written")


def test_a_base_with_a_nan_is_not_exported(tmp_path: Path) -> None:
    inputs = small_inputs(tmp_path)
    poison(inputs.base / "model.safetensors", "model.embed_tokens.weight", NAN)
    store = create_run(inputs, tmp_path / "run", RunSettings())
    continue_run(store, CPU, workers=1)
    with pytest.raises(InputError, match=r"model\.embed_tokens\.weight' holds NaN"):
        export_step(store, 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_same_inputs_same_bytes(tmp_path: Path, record: Callable[[str, str, str], None]) -> None:
    """Another folder, another number of workers, inputs copied elsewhere: the same tables, tensors and export."""
    first = small_inputs(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    second = Inputs(
        base=tmp_path / "two" / "base", updates=[(n, tmp_path / "two" / "updates" / n) for n, _ in first.updates]
    )
    found = []
    for place, (inputs, workers) in enumerate(((first, 1), (second, 3))):
        store = create_run(inputs, tmp_path / f"run-{place}" / "run", RunSettings())
        continue_run(store, CPU, workers=workers)
        export_step(store, 3, tmp_path / f"merged-{place}")
        kept = contents(store.path) | contents(tmp_path / f"merged-{place}")
        # These three name the folders that the inputs lie in.
        found.append({k: v for k, v in kept.items() if k not in ("run.json", "README.md", "tables/updates.parquet")})
    assert found[0] == found[1]
    record("Determinism", "1 and 3 workers, copied inputs", "same bytes in tables, results and export")
