"""All steps of one matrix."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from torch import Tensor

from gcwm_viz.continual.branches import update_of
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.result import MatrixResult, process_matrix
from gcwm_viz.continual.state import integrate
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.linalg.lowrank import LowRank
from gcwm_viz.linalg.subspace import right_subspace
from gcwm_viz.merging.gcwm import merge_layer
from gcwm_viz.signals.pairwise import principal_angles
from gcwm_viz.updates.matrices import MatrixKey
from tests.factories import low_rank_updates, updates

KEY = MatrixKey("model.layers.3.mlp.up_proj.weight", 3, "up_proj", (20, 12))
NAMES = ["a", "b", "c"]


def settings(preset: str = "scale-free", **overrides: float | str) -> RunSettings:
    return RunSettings.preset_with(preset, overrides)


def deltas(count: int = 3) -> list[Tensor]:
    return list(updates(count, *KEY.shape, seed=5))


def states(result: MatrixResult, config: RunSettings) -> Iterator[Tensor | LowRank]:
    state = previous = None
    for row in result.rows["matrices"]:
        plain, geo = result.tensors[f"plain.{row['step']}"], result.tensors[f"geo.{row['step']}"]
        merged = torch.lerp(plain, geo, row["alpha"])
        state = integrate(state, merged, previous, config.continual, row["step"])
        previous = merged
        yield state


@pytest.mark.parametrize("preset", ["scale-free", "paper"])
def test_last_step_merges_all_updates_as_the_library_does(preset: str) -> None:
    config = settings(preset)
    result = process_matrix(KEY, NAMES, deltas(), config)
    direct = merge_layer(torch.stack(deltas()), config=config.gcwm)
    row = result.rows["matrices"][-1]
    assert row["conflict"] == pytest.approx(direct.conflict, rel=1e-9)
    assert row["alpha"] == pytest.approx(direct.alpha, rel=1e-9)
    assert row["displacement"] == pytest.approx(direct.displacement, rel=1e-5)
    torch.testing.assert_close(result.tensors["geo.3"], direct.geo)


def test_increments_telescope_when_eta_is_constant() -> None:
    config = settings(eta=0.4)
    result = process_matrix(KEY, NAMES, deltas(), config)
    final = list(states(result, config))[-1]
    merged = torch.lerp(result.tensors["plain.3"], result.tensors["geo.3"], result.rows["matrices"][-1]["alpha"])
    torch.testing.assert_close(final, 0.4 * merged, rtol=1e-5, atol=1e-7)


def test_constant_eta_is_the_limit_of_a_decaying_one() -> None:
    constant = process_matrix(KEY, NAMES, deltas(), settings(eta=0.4))
    nearly = process_matrix(KEY, NAMES, deltas(), settings(eta=0.4, decay=1 - 1e-9))
    for a, b in zip(constant.rows["matrices"], nearly.rows["matrices"], strict=True):
        assert a["state_norm"] == pytest.approx(b["state_norm"], rel=1e-6)


def test_order_changes_the_path_but_not_the_end_under_all_history() -> None:
    forward = process_matrix(KEY, NAMES, deltas(), settings())
    backward = process_matrix(KEY, NAMES[::-1], deltas()[::-1], settings())
    torch.testing.assert_close(forward.tensors["plain.3"], backward.tensors["plain.3"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(forward.tensors["geo.3"], backward.tensors["geo.3"], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(forward.tensors["plain.2"], backward.tensors["plain.2"])


def test_order_matters_under_current_anchor_and_the_anchor_is_a_member() -> None:
    config = settings(policy="current_anchor")
    forward = process_matrix(KEY, NAMES, deltas(), config)
    backward = process_matrix(KEY, NAMES[::-1], deltas()[::-1], config)
    assert not torch.allclose(forward.tensors["plain.3"], backward.tensors["plain.3"], rtol=1e-3)
    last = [row for row in forward.rows["pairs"] if row["step"] == 3 and row["kind"] == "active"]
    assert [(row["i"], row["j"]) for row in last] == [("anchor", "c")]


def test_memory_keeps_the_last_updates_only() -> None:
    result = process_matrix(KEY, NAMES, deltas(), settings(memory=2))
    pairs = [(row["i"], row["j"]) for row in result.rows["pairs"] if row["step"] == 3 and row["kind"] == "active"]
    assert pairs == [("b", "c")]


def test_first_step_has_no_pairs_no_incoming_conflict_and_says_why() -> None:
    row = process_matrix(KEY, NAMES, deltas(), settings()).rows["matrices"][0]
    for name in ("active_conflict", "state_gap", "global_active", "global_gap", "incoming_conflict"):
        assert math.isnan(row[name])
    assert row["conflict"] == 0.0
    assert "g = 0 by definition" in row["reason"]
    assert "no state before the first step" in row["reason"]


def test_incoming_conflict_is_the_state_pair_known_before_the_step() -> None:
    # With η = 1 and one update the state after step 1 is that update, so what arrives meets exactly Δ_1.
    result = process_matrix(KEY, NAMES[:2], deltas(2), settings())
    pair = next(row for row in result.rows["pairs"] if row["step"] == 2 and row["kind"] == "active")
    assert result.rows["matrices"][1]["incoming_conflict"] == pytest.approx(pair["conflict"], rel=1e-5)


def test_state_conflict_of_a_scaled_copy_has_its_closed_form() -> None:
    # S_1 = ηΔ_1: γ = (1−η)² / (1+η²) while λ is negligible.
    row = process_matrix(KEY, ["a"], deltas(1), settings("paper", lam=1e-14, eta=0.1)).rows["matrices"][0]
    assert row["state_conflict"] == pytest.approx(0.9**2 / 1.01, rel=1e-4)


def test_gaps_are_differences_and_means_match_the_pairs_table() -> None:
    result = process_matrix(KEY, NAMES, deltas(), settings())
    row = result.rows["matrices"][2]
    pairs = [entry for entry in result.rows["pairs"] if entry["step"] == 3]
    active = [entry["conflict"] for entry in pairs if entry["kind"] == "active"]
    state = [entry["conflict"] for entry in pairs if entry["kind"] == "state"]
    assert row["active_conflict"] == pytest.approx(sum(active) / 3)
    assert row["state_conflict"] == pytest.approx(sum(state) / 3)
    assert row["state_gap"] == pytest.approx(row["state_conflict"] - row["active_conflict"])
    assert row["global_gap"] == pytest.approx(row["global_with_state"] - row["global_active"])
    sar = [(entry["sar_ij"] + entry["sar_ji"]) / 2 for entry in pairs if entry["kind"] == "active"]
    assert row["sar"] == pytest.approx(sum(sar) / 3)


def test_an_update_that_is_absent_leaves_the_others_as_if_it_were_not_there() -> None:
    a, _, c = deltas()
    with_gap = process_matrix(KEY, NAMES, [a, None, c], settings())
    without = process_matrix(KEY, ["a", "c"], [a, c], settings())
    assert torch.equal(with_gap.tensors["geo.3"], without.tensors["geo.2"])
    assert torch.equal(with_gap.tensors["geo.2"], with_gap.tensors["geo.1"])
    row = with_gap.rows["matrices"][1]
    assert row["active"] == 1
    assert row["update_norm"] == 0.0
    assert math.isnan(row["incoming_conflict"])
    assert "does not touch this matrix" in row["reason"]


def test_a_matrix_without_any_update_yet_is_absent_and_undefined() -> None:
    row = process_matrix(KEY, ["a", "b"], [None, deltas()[1]], settings()).rows["matrices"][0]
    assert row["mode"] == "absent"
    assert math.isnan(row["conflict"])
    assert math.isnan(row["alpha"])
    assert math.isnan(row["state_conflict"])
    assert row["state_norm"] == 0.0


def test_given_states_are_described_and_not_merged() -> None:
    given = [0.5 * deltas()[0], 0.2 * deltas()[1], deltas()[2]]
    result = process_matrix(KEY, NAMES, deltas(), settings(), given)
    assert [row["mode"] for row in result.rows["matrices"]] == ["trained"] * 3
    for step, state in enumerate(given, start=1):
        assert torch.equal(result.tensors[f"merged.{step}"], state)
    last = result.rows["matrices"][-1]
    assert last["state_norm"] == pytest.approx(float(given[2].norm()), rel=1e-6)
    assert last["increment_norm"] == pytest.approx(float((given[2] - given[1]).norm()), rel=1e-6)
    assert math.isnan(last["alpha"])
    own = [row for row in result.rows["pairs"] if row["step"] == 3 and row["kind"] == "state" and row["i"] == "c"]
    assert own[0]["conflict"] == pytest.approx(0.0, abs=1e-9)


def test_factored_updates_give_what_their_dense_form_gives() -> None:
    factored = low_rank_updates(3, *KEY.shape, rank=3)
    thin = process_matrix(KEY, NAMES, factored, settings())
    full = process_matrix(KEY, NAMES, [delta.dense() for delta in factored], settings())
    for name in ("conflict", "state_conflict", "incoming_conflict", "sar", "displacement"):
        assert thin.rows["matrices"][2][name] == pytest.approx(full.rows["matrices"][2][name], rel=1e-4), name
    for name in ("plain", "geo"):
        branch = update_of(name, 3, thin.tensors, thin.tensors.__getitem__)
        assert isinstance(branch, LowRank)  # of three updates of rank 3: nothing large is kept, and nothing is cut
        assert branch.rank == 9
        torch.testing.assert_close(branch.dense(), full.tensors[f"{name}.3"], rtol=1e-4, atol=1e-5)
    for step in range(3):
        for norm in ("merged_norm", "increment_norm", "state_norm"):
            assert thin.rows["matrices"][step][norm] == pytest.approx(full.rows["matrices"][step][norm], rel=1e-4), norm


def test_relative_lambda_makes_all_signals_blind_to_the_scale_of_the_updates() -> None:
    once = process_matrix(KEY, NAMES, deltas(), settings()).rows["matrices"][2]
    scaled = process_matrix(KEY, NAMES, [1e-3 * delta for delta in deltas()], settings()).rows["matrices"][2]
    for name in ("conflict", "alpha", "state_conflict", "global_gap", "incoming_conflict", "sar", "geo_shift"):
        assert scaled[name] == pytest.approx(once[name], rel=1e-4), name


def test_solver_rows_hold_the_path_of_both_branches() -> None:
    config = RunSettings.preset_with("paper", {"iters": 10})
    rows = process_matrix(KEY, NAMES, deltas(), config).rows["solver"]
    plain = [row for row in rows if row["step"] == 3 and row["branch"] == "plain"]
    assert plain[0]["iteration"] == 0
    assert plain[0]["shift"] == 0.0
    assert plain[-1]["iteration"] == 10
    assert plain[-1]["objective"] < plain[0]["objective"]
    total = float(torch.stack(deltas()).sum(0).norm())
    assert plain[-1]["relative_shift"] == pytest.approx(plain[-1]["shift"] / total, rel=1e-5)


def test_gate_off_takes_the_geometry_branch_alone() -> None:
    config = RunSettings.preset_with("scale-free", {"gate": "none"})
    row = process_matrix(KEY, NAMES, deltas(), config).rows["matrices"][2]
    assert (row["alpha"], row["mode"]) == (1.0, "geo")


def test_configuration_is_the_default_preset() -> None:
    assert RunSettings().gcwm == GCWMConfig.preset("scale-free")


def test_principal_angles_are_those_of_scipy_at_the_rank_of_the_gate() -> None:
    config = settings(rank=3, energy=1.0)
    rows = process_matrix(KEY, NAMES, deltas(), config).rows["pairs"]
    subspaces = [right_subspace(delta, 3, 1.0).v_ir.numpy() for delta in deltas()]
    for row in rows:
        if row["kind"] != "active":
            assert row["principal_angles"] == []
            continue
        i, j = NAMES.index(row["i"]), NAMES.index(row["j"])
        expected = np.rad2deg(np.sort(subspace_angles(subspaces[i], subspaces[j])))
        np.testing.assert_allclose(row["principal_angles"], expected, atol=1e-4)


def test_equal_and_orthogonal_subspaces_are_0_and_90_degrees_apart() -> None:
    eye = torch.eye(20, 12)
    a, b = eye * (torch.arange(12) < 3), eye * (torch.arange(12) >= 9)
    first, again, second = (right_subspace(delta, 3, 1.0) for delta in (a, 2 * a, b))
    assert principal_angles(first, again) == pytest.approx([0, 0, 0], abs=1e-5)
    assert principal_angles(first, second) == pytest.approx([90, 90, 90])


def test_barycenter_rows_are_its_way_to_the_reported_residual() -> None:
    result = process_matrix(KEY, NAMES, deltas(), settings())
    for row in result.rows["matrices"]:
        path = [entry for entry in result.rows["barycenter"] if entry["step"] == row["step"]]
        assert [entry["iteration"] for entry in path] == list(range(row["barycenter_iterations"] + 1))
        assert path[-1]["residual"] == row["barycenter_residual"]
    assert process_matrix(KEY, NAMES, deltas(), settings(metric="mean")).rows["barycenter"] == []


@pytest.mark.parametrize("solver", ["adam", "exact"])
def test_no_solver_gets_below_the_minimum(solver: str) -> None:
    rows = process_matrix(KEY, NAMES, deltas(), settings(solver=solver)).rows["matrices"]
    assert math.isnan(rows[0]["plain_minimum"])  # one update: the plain sum is the minimum, and is 0
    for branch in ("plain", "geo"):
        assert 0 <= rows[-1][f"{branch}_minimum"] < rows[-1][f"{branch}_objective"]
    close = process_matrix(KEY, NAMES, deltas(), settings(mu_rel=1e-6)).rows["matrices"][-1]
    for branch in ("plain", "geo"):
        assert close[f"{branch}_objective"] == pytest.approx(close[f"{branch}_minimum"], rel=1e-6)
