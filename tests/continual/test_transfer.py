"""Two matrices under way on one device, as on a GPU, for which the CPU stands here."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from gcwm_viz.continual import work
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.result import MatrixResult, process_matrix
from gcwm_viz.continual.transfer import settle, to_device, to_host
from gcwm_viz.engines import local
from gcwm_viz.linalg.lowrank import LowRank
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from tests.continual.inputs import write_base, write_updates

CPU = torch.device("cpu")


def test_they_give_the_bytes_of_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = Inputs(base=write_base(tmp_path / "base"), updates=write_updates(tmp_path / "updates", "abc"))
    runs = [create_run(inputs, tmp_path / name, RunSettings()) for name in ("single", "lanes")]
    continue_run(runs[0], CPU, workers=1)
    threads: set[str] = set()
    computing: list[None] = []
    genuine = process_matrix
    one_at_a_time: Any = local.unordered

    def watched(*arguments: Any) -> MatrixResult:
        threads.add(threading.current_thread().name)
        computing.append(None)
        assert len(computing) == 1
        result = genuine(*arguments)
        computing.pop()
        return result

    monkeypatch.setattr(work, "process_matrix", watched)
    monkeypatch.setattr(local, "unordered", lambda *arguments: one_at_a_time(*arguments[:4], lanes=2))
    continue_run(runs[1], CPU, workers=1)
    assert len(threads) == 2
    files = sorted((runs[0].path / "matrices").iterdir())
    assert len(files) == 2 * len(runs[0].keys)
    for file in files:
        assert (runs[1].path / "matrices" / file.name).read_bytes() == file.read_bytes()


def test_a_copy_is_the_same_numbers_in_the_same_form() -> None:
    delta = torch.randn(5, 7)
    factored = LowRank(torch.randn(5, 2), torch.randn(2, 7))
    settle(CPU)
    copy = to_device(delta, CPU)
    assert isinstance(copy, torch.Tensor)
    assert torch.equal(to_host(copy), delta)
    moved = to_device(factored, CPU)
    assert isinstance(moved, LowRank)
    assert torch.equal(moved.left_or, factored.left_or)
    assert torch.equal(moved.right_ri, factored.right_ri)
