"""A merge that changes nothing is an error, or a warning where its method means it; never a silent success."""

from pathlib import Path

import pytest
import torch

from gcwm_viz.cli import main
from tests.checkpoints import tiny
from tests.continual.inputs import matrix_names, write_base, write_updates


def expert(base: Path, folder: Path, change: float, *, outside: float = 0.0) -> Path:
    """The base as a full checkpoint with ``change`` added to its matrices, and ``outside`` to the rest."""
    content = {n: t + (change if n in matrix_names() else outside) for n, t in tiny.tensors(base).items()}
    tiny.store(folder, content)
    (folder / "config.json").write_text((base / "config.json").read_text())
    return folder


def run(base: Path, update: Path, out: Path, *more: str) -> int:
    return main(["run", "--base", str(base), "--update", f"x={update}", "--device", "cpu", "--out", str(out), *more])


def test_updates_of_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_base(tmp_path / "base")
    frozen = expert(base, tmp_path / "x", 0.0, outside=0.1)
    assert run(base, frozen, tmp_path / "run") == 2
    assert "every update is zero in the target matrices, so the merged model is the base" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "the model of step 1 is the base in every tensor, since its update is zero; nothing was written" in said
    assert not (tmp_path / "out").exists()
    # What it does change is merged on request, and then that is a merge.
    assert run(base, frozen, tmp_path / "outside", "--outside", "sum") == 0
    assert main(["export", str(tmp_path / "outside"), "--out", str(tmp_path / "merged")]) == 0
    merged, own = tiny.tensors(tmp_path / "merged"), tiny.tensors(base)
    assert {n for n in own if not torch.equal(own[n], merged[n])} == {"model.embed_tokens.weight"}


def test_an_update_that_rounding_takes_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_base(tmp_path / "base")
    tiny.store(base, {name: torch.ones_like(tensor).bfloat16() for name, tensor in tiny.tensors(base).items()})
    delta = {name: torch.full_like(tensor.float(), 1e-5) for name, tensor in tiny.tensors(base).items()}
    small = tiny.store(tmp_path / "x", {name: delta[name] for name in matrix_names()}, gcwm_viz="update")
    assert run(base, small, tmp_path / "run", "--eta", "1") == 0
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 2
    assert "since rounding takes all of the update; expected --dtype float32" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--dtype", "float32"]) == 0


def test_a_method_whose_result_is_zero_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_base(tmp_path / "base")
    content = tiny.tensors(write_updates(tmp_path / "a", "x")[0][1])
    opposite = tiny.store(tmp_path / "y", {name: -tensor for name, tensor in content.items()}, gcwm_viz="update")
    given = ["--base", str(base), "--update", f"x={tmp_path / 'a' / 'x'}", "--update", f"y={opposite}"]
    more = ["--device", "cpu", "--out", str(tmp_path / "run"), "--method", "task-arithmetic"]
    assert main(["run", *given, *more]) == 0
    said = capsys.readouterr().out
    assert "warning: the final state of task-arithmetic is zero, so the merged model is the base" in said
