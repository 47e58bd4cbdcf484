"""The final state alone is that of a complete run, bit for bit, from as few merges as its settings permit."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gcwm_viz.continual.branches import Branches, update_of
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.final import final_merges, final_state, steps_to_merge
from gcwm_viz.continual.result import process_matrix
from gcwm_viz.continual.state import state_of
from gcwm_viz.errors import InputError
from gcwm_viz.geometry import member
from gcwm_viz.geometry.shared import shared_geometry
from gcwm_viz.linalg import barycenter
from gcwm_viz.linalg.lowrank import LowRank, Update, dense
from gcwm_viz.merging.merge import MERGED, Merge, MergeMethod
from gcwm_viz.merging.methods.arithmetic import weighted_sum
from gcwm_viz.merging.registry import METHODS
from gcwm_viz.merging.step import MergeStep
from gcwm_viz.updates.matrices import MatrixKey
from tests.factories import low_rank_updates, updates

KEY = MatrixKey("model.layers.3.mlp.up_proj.weight", 3, "up_proj", (20, 12))
NAMES = ["a", "b", "c"]
POLICIES: list[dict[str, Any]] = [
    {},
    {"eta": 0.4},
    {"memory": 1},
    {"memory": 2, "keep": "last"},
    {"policy": "current_anchor", "old_weight": 0.7},
    {"decay": 0.7},
    {"decay": 1.2, "memory": 2},
    {"old_weight": 0.5, "new_weight": 2.0},
    {"policy": "current_anchor", "decay": 0.9},
]


def dense_updates() -> list[Update | None]:
    return list(updates(3, *KEY.shape, seed=5))


def given(kind: str) -> list[Update | None]:
    full, thin = dense_updates(), low_rank_updates(3, *KEY.shape, rank=3)
    cases: dict[str, list[Update | None]] = {
        "dense": full,
        "factored": list(thin),
        "mixed": [thin[0], full[1], thin[2]],
        "first absent": [None, full[1], full[2]],
        "last absent": [full[0], full[1], None],
        "all but one absent": [None, thin[1], None],
        "absent": [None, None, None],
    }
    return cases[kind]


def of_a_complete_run(deltas: Sequence[Update | None], settings: RunSettings) -> Update:
    """S_T as :meth:`RunStore.stored_state` rebuilds it from what a run stores."""
    result = process_matrix(KEY, NAMES, deltas, settings)

    def merged(step: int) -> Update:
        row = result.rows["matrices"][step - 1]
        stored = {
            name: update_of(name, step, result.tensors, result.tensors.__getitem__) for name in (MERGED, "plain", "geo")
        }
        branches = {name: update for name, update in stored.items() if update is not None}
        return Branches(branches).blend(row["alpha"], row["mode"])

    return state_of(len(NAMES), merged, settings.continual)


def assert_same(actual: Update, expected: Update) -> None:
    assert isinstance(actual, LowRank) == isinstance(expected, LowRank)
    if isinstance(actual, LowRank) and isinstance(expected, LowRank):
        assert torch.equal(actual.left_or, expected.left_or)
        assert torch.equal(actual.right_ri, expected.right_ri)
    else:
        assert torch.equal(dense(actual), dense(expected))


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_the_same_bits_as_a_complete_run(method: str, policy: dict[str, Any]) -> None:
    settings = RunSettings.preset_with("scale-free", policy, method)
    for kind in ("dense", "factored", "mixed", "first absent", "last absent", "all but one absent", "absent"):
        deltas = given(kind)
        assert_same(final_state(KEY, NAMES, deltas, settings), of_a_complete_run(deltas, settings))


@pytest.mark.parametrize("preset", ["paper", "release"])
@pytest.mark.parametrize("overrides", [{}, {"gate": "none"}, {"precision": "float64"}, {"metric": "mean"}])
def test_the_same_bits_under_every_preset(preset: str, overrides: dict[str, Any]) -> None:
    settings = RunSettings.preset_with(preset, {"iters": 5} | overrides)
    assert_same(final_state(KEY, NAMES, dense_updates(), settings), of_a_complete_run(dense_updates(), settings))


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_earlier_steps_are_merged_only_where_they_enter_the_final_state(
    method: str, policy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = RunSettings.preset_with("scale-free", policy, method)
    merged: list[str] = []
    own = METHODS[method].merge

    def counted(step: MergeStep) -> Merge:
        merged.append(step.names[-1])
        return own(step)

    monkeypatch.setitem(METHODS, method, replace(METHODS[method], merge=counted))
    entering = final_merges(KEY, NAMES, dense_updates(), settings)
    every = METHODS[method].sequential or policy.get("policy") == "current_anchor" or "decay" in policy
    assert merged == (NAMES if every else ["c"])
    assert len(steps_to_merge(settings, 3)) == len(merged)
    assert list(entering) == ([1, 2, 3] if "decay" in policy else [3])


@pytest.mark.parametrize("method", [name for name in METHODS if name != "gcwm"])
def test_a_method_that_needs_no_geometry_costs_none(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> Any:
        pytest.fail("an update was decomposed")

    monkeypatch.setattr(member, "right_subspace", none)
    settings = RunSettings.preset_with("scale-free", {}, method)
    assert dense(final_state(KEY, NAMES, dense_updates(), settings)).any()


def test_a_method_gets_all_of_the_geometry_that_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_geometry(step: MergeStep) -> Merge:
        weight = step.geometry.conflict + float(step.geometry.sar.sum()) + sum(step.geometry.retained_ranks)
        return Merge.of(weight * weighted_sum(step) + replace(step.geometry, conflict=2.0).conflict)

    monkeypatch.setitem(
        METHODS, "by-geometry", MergeMethod(name="by-geometry", source="", summary="", merge=by_geometry)
    )
    settings = RunSettings.preset_with("scale-free", {}, "by-geometry")
    assert_same(final_state(KEY, NAMES, dense_updates(), settings), of_a_complete_run(dense_updates(), settings))


def test_one_geometry_serves_all_settings_of_the_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    own: Callable[..., Any] = barycenter.barycenter

    def counted(roots: Tensor, *rest: Any) -> Any:
        found.append(len(roots))
        return own(roots, *rest)

    monkeypatch.setattr("gcwm_viz.geometry.layer.barycenter", counted)
    deltas = dense_updates()
    changes: list[dict[str, Any]] = [{}, {"mu_rel": 3.0}, {"solver": "adam", "iters": 3}, {"lam": 0.1}, {"tau": 0.2}]
    alone = [final_state(KEY, NAMES, deltas, RunSettings.preset_with("scale-free", change)) for change in changes]
    assert len(found) == 5
    found.clear()
    with shared_geometry():
        for change, expected in zip(changes, alone, strict=True):
            settings = RunSettings.preset_with("scale-free", change)
            assert_same(final_state(KEY, NAMES, deltas, settings), expected)
        assert len(found) == 3  # one for the solvers, one for λ, one for the gate
        final_state(KEY, ["a", "c"], [deltas[0], deltas[2]], RunSettings())
        anchored = RunSettings.preset_with("scale-free", {"policy": "current_anchor"})
        expected = of_a_complete_run(deltas, anchored)
        for _ in range(2):
            assert_same(final_state(KEY, NAMES, deltas, anchored), expected)
    assert found[3:] == [2, 1, 2, 2, 1, 2, 2, 2, 2]  # the first step has no anchor, and the same geometry again


def test_what_fails_names_the_matrix() -> None:
    with pytest.raises(InputError, match=r"matrix 'model.layers.3.*merge of step 3 \(c\)"):
        final_state(KEY, NAMES, [torch.full(KEY.shape, 3e38)] * 3, RunSettings.preset_with("scale-free", {}, "mean"))
