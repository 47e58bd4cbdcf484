"""The plain branch as a method, and GCWM's ablations as settings."""

import pytest
import torch

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.result import process_matrix
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.merging.gcwm import merge_layer
from gcwm_viz.merging.registry import get_method
from gcwm_viz.updates.matrices import MatrixKey
from tests.factories import updates
from tests.merging.steps import close, merge, merge_step
from tests.rounding import rounding

DELTAS = updates(3, 14, 10, seed=9, dtype=torch.float64)


@pytest.mark.parametrize("preset", ["scale-free", "paper"])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.0]])
def test_equals_the_plain_branch_of_gcwm(preset: str, weights: list[float] | None) -> None:
    config = GCWMConfig(**{**GCWMConfig.preset(preset).to_dict(), "precision": "float64"})
    (outcome,) = get_method("wudi").merge(merge_step("wudi", DELTAS, config, weights=weights)).branches.values()
    branch = merge_layer(DELTAS, weights, config)
    close(outcome.update, branch.plain)
    assert outcome.shift == pytest.approx(branch.plain_shift, rel=2 * rounding(14), abs=0)
    assert outcome.solution is not None
    assert branch.plain_solution is not None
    assert outcome.solution.path == branch.plain_solution.path


def test_minimises_the_interference() -> None:
    config = GCWMConfig(precision="float64", mu_rel=1e-9)
    merged = merge("wudi", DELTAS[:2], config).requires_grad_()
    loss = sum(((merged - delta) @ delta.mT).square().sum() / delta.square().sum() for delta in DELTAS[:2])
    loss.backward()
    scale = float(((DELTAS[0] + DELTAS[1]) @ DELTAS[0].mT).norm())
    assert float(merged.grad.norm()) < 1e-6 * scale


def test_the_solver_is_in_the_tables() -> None:
    key = MatrixKey("model.layers.0.mlp.up_proj.weight", 0, "up_proj", (14, 10))
    names = ["a", "b", "c"]
    result = process_matrix(key, names, list(DELTAS.float()), RunSettings.preset_with("scale-free", {}, "wudi"))
    full = process_matrix(key, names, list(DELTAS.float()), RunSettings.preset_with("scale-free", {}))
    row, other = result.rows["matrices"][-1], full.rows["matrices"][-1]
    assert row["mode"] == "merged"
    assert row["alpha"] != row["alpha"]
    for column in ("plain_shift", "plain_objective", "conflict"):
        assert row[column] == pytest.approx(other[column], rel=1e-6)
    assert row["solver_converged"]
    assert [entry["branch"] for entry in result.rows["solver"] if entry["step"] == 3] == ["plain", "plain"]
    torch.testing.assert_close(result.tensors["merged.3"], full.tensors["plain.3"])


def test_ablations_are_settings() -> None:
    geo = merge("gcwm", DELTAS, GCWMConfig(gate="none", precision="float64"))
    close(geo, merge_layer(DELTAS, config=GCWMConfig(gate="none", precision="float64")).geo)
    assert not torch.allclose(geo, merge("wudi", DELTAS, GCWMConfig(precision="float64")), rtol=1e-3)
    averaged = merge("gcwm", DELTAS, GCWMConfig(metric="mean", precision="float64"))
    assert not torch.allclose(averaged, merge("gcwm", DELTAS, GCWMConfig(precision="float64")), rtol=1e-5)
