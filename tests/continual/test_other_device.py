"""Every method on updates that lie on another device: nothing mixes devices, and the numbers are the CPU's."""

from typing import Any

import pytest
import torch
from torch import Tensor

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.final import final_state
from gcwm_viz.continual.result import process_matrix
from gcwm_viz.continual.transfer import to_device
from gcwm_viz.linalg import psd
from gcwm_viz.linalg.lowrank import LowRank, dense
from gcwm_viz.merging.registry import METHODS
from gcwm_viz.updates.matrices import MatrixKey
from tests.other_device import CUDA, There, TwoDevices, imitate_streams

NAMES = ["a", "b", "c"]
CASES = [
    *((method, "scale-free", {}) for method in METHODS),
    ("gcwm", "release", {}),
    ("gcwm", "paper", {"policy": "current_anchor"}),
    ("gcwm", "paper", {"precision": "float64"}),
    ("gcwm", "paper", {"products": "tf32"}),
    ("gcwm", "paper", {"products": "bf16x3"}),
    ("gcwm", "scale-free", {"metric": "mean", "memory": 1}),
    ("gcwm", "scale-free", {"decay": 0.9}),
]


def updates(kind: str, shape: tuple[int, int]) -> list[Any]:
    rng = torch.Generator().manual_seed(3)
    d_out, d_in = shape
    found = []
    for index in range(3):
        left, right = torch.randn(d_out, 4, generator=rng) / 100, torch.randn(4, d_in, generator=rng)
        thin = kind == "thin" or (kind == "mixed" and index == 1)
        noise = torch.randn(d_out, d_in, generator=rng) / 1000
        found.append(LowRank(left, right) if thin else left @ right + noise)
    return found


@pytest.mark.parametrize("kind", ["dense", "thin", "mixed"])
@pytest.mark.parametrize(("method", "preset", "changes"), CASES)
def test_the_same_as_on_the_cpu(
    method: str, preset: str, changes: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psd, "PARTIAL_SIZE", 24)  # so that the Lanczos method has its turn
    imitate_streams(monkeypatch)
    few = {"iters": 3, "barycenter_iters": 8}  # every kind of step has its turn
    settings = RunSettings.preset_with(preset, few | changes, method)
    for shape, absent in (((30, 26), ()), ((10, 60), (0,)), ((30, 26), (1,)), ((30, 26), (0, 1, 2))):
        key = MatrixKey("model.layers.0.self_attn.q_proj.weight", 0, "q_proj", shape)
        deltas = [None if index in absent else delta for index, delta in enumerate(updates(kind, shape))]
        here = process_matrix(key, NAMES, deltas, settings)
        with TwoDevices():
            sent = [None if delta is None else to_device(delta, CUDA) for delta in deltas]
            assert all(isinstance(parts(delta)[0], There) for delta in sent if delta is not None)
            found = process_matrix(key, NAMES, sent, settings)
            final = dense(final_state(key, NAMES, sent, settings)).cpu()
        torch.testing.assert_close(final, dense(final_state(key, NAMES, deltas, settings)), rtol=1e-4, atol=1e-7)
        assert found.tensors.keys() == here.tensors.keys()
        for name, tensor in found.tensors.items():
            assert not isinstance(tensor, There)
            torch.testing.assert_close(tensor, here.tensors[name], rtol=1e-4, atol=1e-7)
        for table, rows in found.rows.items():
            assert len(rows) == len(here.rows[table])
            for row, other in zip(rows, here.rows[table], strict=True):
                assert row == {
                    name: pytest.approx(value, rel=1e-4, abs=1e-6, nan_ok=True) if isinstance(value, float) else value
                    for name, value in other.items()
                }


def test_what_mixes_devices_is_refused() -> None:
    """The imitation notices what it is there for."""
    with TwoDevices():
        far = torch.zeros(3, device=CUDA)
        assert far.device == CUDA
        assert (far + 1).device == CUDA
        assert far.cpu().device.type == "cpu"
        with pytest.raises(RuntimeError, match="one device"):
            far + torch.ones(3)
        with pytest.raises(RuntimeError, match="one device"):
            far.numpy()


def parts(delta: Tensor | LowRank) -> tuple[Any, ...]:
    return (delta.left_or, delta.right_ri) if isinstance(delta, LowRank) else (delta,)
