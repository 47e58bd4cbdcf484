"""What every registered merge method must do, whatever its formula."""

from itertools import permutations
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from gcwm_viz.continual.branches import update_of
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.result import process_matrix
from gcwm_viz.errors import InputError
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.linalg.lowrank import LowRank, dense
from gcwm_viz.merging.methods.ties import TiesSettings
from gcwm_viz.merging.registry import METHODS, get_method
from gcwm_viz.updates.matrices import MatrixKey
from tests.factories import low_rank_updates, updates
from tests.merging.steps import close, merge, merge_step

KEY = MatrixKey("model.layers.0.mlp.up_proj.weight", 0, "up_proj", (24, 15))
NAMES = ["a", "b", "c"]
SPARSE = {"ties": (0.2, 1.0), "dare": (0.1, 10.0), "dare-ties": (0.1, 10.0), "localize-and-stitch": (0.05, 1.0)}
"""Share of a lone update's entries that is kept and what they are multiplied by; other methods return the update."""
ISOTROPIC = ("iso-c", "iso-cts")
"""Methods that make the singular values of a lone update equal."""

every_method = pytest.mark.parametrize("method", METHODS)


def three(**more: Any) -> Tensor:
    return updates(3, *KEY.shape, seed=3, dtype=torch.float64, **more)


@every_method
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_shape_and_type(method: str, precision: Literal["float32", "float64"]) -> None:
    config = GCWMConfig(precision=precision)
    for dtype in (torch.float32, torch.float64):
        merged = merge(method, updates(3, *KEY.shape, dtype=dtype), config)
        assert merged.shape == KEY.shape
        assert bool(merged.isfinite().all())
        if method != "gcwm":
            assert merged.dtype == getattr(torch, precision)


@every_method
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_zero_update_changes_nothing(method: str, position: int) -> None:
    deltas = list(three())
    rest = merge(method, [delta for i, delta in enumerate(deltas) if i != position], names=["x", "y"])
    names = ["x", "y"]
    names.insert(position, "zero")
    deltas[position] = torch.zeros(KEY.shape, dtype=torch.float64)
    close(merge(method, deltas, names=names), rest)


@every_method
def test_zero_updates_alone_merge_to_zero(method: str) -> None:
    assert not bool(merge(method, torch.zeros(2, *KEY.shape, dtype=torch.float64)).any())


@every_method
def test_a_single_update(method: str) -> None:
    delta = three()[0]
    merged = merge(method, [delta])
    if method in ISOTROPIC:
        u, sigma, vt = torch.linalg.svd(delta, full_matrices=False)
        delta = sigma.mean() * u @ vt
    share, scale = SPARSE.get(method, (1.0, 1.0))
    kept = merged != 0
    close(merged[kept], scale * delta[kept])
    tolerance = 0.05 if method.startswith("dare") else 0.6 / delta.numel()  # less than one entry
    assert float(kept.double().mean()) == pytest.approx(share, abs=tolerance)


@every_method
def test_rank_deficient_updates(method: str) -> None:
    deltas = [delta.dense() for delta in low_rank_updates(3, *KEY.shape, 1, dtype=torch.float64)]
    assert bool(merge(method, deltas).isfinite().all())
    assert bool(merge(method, [deltas[0], deltas[0], deltas[1]]).isfinite().all())


@every_method
def test_inputs_are_not_modified_nor_shared(method: str) -> None:
    deltas = three()
    before = deltas.clone()
    step = merge_step(method, [deltas[0]])
    merged = get_method(method).merge(step).merged
    assert isinstance(merged, Tensor)
    merged.add_(1.0)
    merge(method, deltas).add_(1.0)
    assert torch.equal(deltas, before)


@every_method
def test_the_same_twice(method: str) -> None:
    deltas = three()
    assert torch.equal(merge(method, deltas), merge(method, deltas))


@every_method
def test_low_rank_equals_dense(method: str) -> None:
    thin = low_rank_updates(3, *KEY.shape, 2, dtype=torch.float64)
    # Sums of factors and of matrices round differently, and the closed form divides by small eigenvalues.
    factored = dense(merge(method, thin))
    close(factored, merge(method, [delta.dense() for delta in thin]), 1e-8)
    mixed: list[Tensor | LowRank] = [thin[0], thin[1].dense(), thin[2]]
    close(merge(method, mixed), factored, 1e-8)


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if not method.sequential])
def test_order_does_not_matter(method: Any) -> None:
    deltas = list(three())
    expected = merge(method, deltas, names=NAMES)
    for order in permutations(range(3)):
        actual = merge(method, [deltas[i] for i in order], names=[NAMES[i] for i in order])
        close(actual, expected, 1e-9)


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.sequential])
def test_a_sequential_method_depends_on_the_order(method: Any) -> None:
    deltas = three()
    assert not torch.allclose(merge(method, deltas), merge(method, deltas.flip(0)), rtol=1e-3)


@every_method
def test_scale(method: str) -> None:
    deltas = three()
    close(merge(method, 1e-3 * deltas), 1e-3 * merge(method, deltas), 1e-9)


@every_method
def test_the_engine_runs_it_and_leaves_absent_updates_out(method: str) -> None:
    settings = RunSettings.preset_with("scale-free", {}, method)
    deltas = list(updates(3, *KEY.shape, seed=3))
    for given in ([deltas[0], None, deltas[2]], [None, deltas[0], deltas[2]], [deltas[0], deltas[2], None]):
        names = ["x" if delta is deltas[0] else "y" if delta is deltas[2] else "gone" for delta in given]
        result = process_matrix(KEY, names, given, settings)
        row = result.rows["matrices"][-1]
        state = result.tensors.get("merged.3")
        if state is None:
            state = torch.lerp(result.tensors["plain.3"], result.tensors["geo.3"], row["alpha"])
        expected = merge(method, [deltas[0], deltas[2]], GCWMConfig(), names=["x", "y"])
        close(state, expected, 1e-5)
        assert row["state_norm"] == pytest.approx(float(expected.norm()), rel=1e-5)


@every_method
@pytest.mark.parametrize("policy", [{"policy": "current_anchor"}, {"memory": 1}, {"memory": 2}])
def test_every_memory_policy(method: str, policy: dict[str, Any]) -> None:
    settings = RunSettings.preset_with("scale-free", policy, method)
    result = process_matrix(KEY, NAMES, list(updates(3, *KEY.shape, seed=3)), settings)
    assert all(bool(tensor.isfinite().all()) for tensor in result.tensors.values())
    if policy == {"memory": 1} and not METHODS[method].sequential:
        alone = merge(method, [updates(3, *KEY.shape, seed=3)[2]], GCWMConfig(), names=["c"])
        close(result.tensors.get("merged.3", result.tensors.get("plain.3")), alone, 1e-5)


@every_method
def test_low_rank_updates_in_the_engine(method: str) -> None:
    settings = RunSettings.preset_with("scale-free", {}, method)
    thin = low_rank_updates(3, *KEY.shape, 2)
    first = process_matrix(KEY, NAMES, thin, settings)
    second = process_matrix(KEY, NAMES, [delta.dense() for delta in thin], settings)
    assert all(isinstance(delta, LowRank) for delta in thin)
    for kept, tensor in second.tensors.items():
        name, _, step = kept.partition(".")
        update = update_of(name, int(step), first.tensors, first.tensors.__getitem__)
        assert isinstance(update, LowRank) == METHODS[method].factored(settings.gcwm), kept
        assert update is not None
        close(dense(update), tensor, 1e-4)


@every_method
def test_settings_round_trip(method: str) -> None:
    options = {name: 0.3 if name != "dare_seed" else 7 for name in METHODS[method].settings.names()}
    settings = RunSettings.preset_with("paper", options, method)
    assert RunSettings.from_dict(settings.to_dict()) == settings
    assert settings.options.to_dict() == options
    assert settings.continual.eta == (METHODS[method].eta or 0.1)


def test_settings_written_before_the_options_existed_are_read() -> None:
    values = RunSettings().to_dict()
    del values["options"]
    assert RunSettings.from_dict(values) == RunSettings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ties_keep", 0),
        ("ties_keep", 1.1),
        ("ties_keep", True),
        ("ties_keep", "half"),
        ("localize_keep", float("nan")),
        ("dare_drop", 1.0),
        ("dare_drop", -0.1),
        ("dare_seed", -1),
        ("dare_seed", 0.5),
        ("opcm_energy", 1.0),
        ("opcm_energy", None),
    ],
)
def test_settings_out_of_range_are_named(name: str, value: float | bool | str | None) -> None:
    with pytest.raises(InputError, match=f"setting {name} must be"):
        RunSettings.preset_with("scale-free", {name: value}, "ties")


def test_unknown_names_list_what_is_known() -> None:
    with pytest.raises(InputError, match="task-arithmetic, mean, dop, got 'slerp'"):
        get_method("slerp")
    with pytest.raises(InputError, match="unknown setting 'trim'; known are ties_keep"):
        TiesSettings.from_dict({"trim": 0.1})
    with pytest.raises(InputError, match=r"unknown setting 'trim'.*opcm_energy"):
        RunSettings.preset_with("scale-free", {"trim": 0.1})


def test_the_registry_describes_its_methods() -> None:
    assert set(SPARSE) < set(METHODS)
    for name, method in METHODS.items():
        assert method.name == name
        assert method.source.startswith(("arXiv ", "NeurIPS "))
