"""Signals from principal angles against the same formulas in an explicit basis of every pair and of all."""

import pytest
import torch
from torch import Tensor

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.linalg.bures import bures_squared
from gcwm_viz.linalg.subspace import RightSubspace, right_subspace, union_basis, union_dims
from gcwm_viz.signals.pairwise import Pairs, mean_pair
from gcwm_viz.signals.state import incoming_conflict, state_signals
from tests.factories import low_rank_updates, updates
from tests.rounding import rounding

BOUND = rounding(24, condition=1e4**0.5)
"""Dense covariances of 4 · 6 dimensions; roots lose 1/√ of the smallest eigenvalue, 1e-4 or more."""


def members(kind: str) -> list[RightSubspace]:
    if kind == "nested":  # the last lies in the span of the others
        first = [delta.dense() for delta in low_rank_updates(3, 20, 30, 4, dtype=torch.float64)]
        deltas = [*first, first[0] + first[1]]
    else:
        deltas = list(updates(4, 20, 30, overlap={"near": 0.9, "far": 0.0}[kind], decay=0.5, dtype=torch.float64))
    return [right_subspace(delta, 6, 0.9) for delta in deltas]


def in_basis(basis: Tensor, pair: tuple[RightSubspace, RightSubspace], lam: float) -> float:
    identity = torch.eye(basis.shape[1], dtype=torch.float64)
    a, b = ((c * s.energies_r) @ c.mT + lam * identity for s in pair for c in [basis.mT @ s.v_ir])
    return float(bures_squared(a, b) / (a.trace() + b.trace()))


def lam_of(config: GCWMConfig, subspaces: list[RightSubspace], basis: Tensor) -> float:
    if config.lambda_mode == "absolute":
        return config.lam
    mean = sum(float(s.energies_r.sum()) for s in subspaces) / len(subspaces)
    return config.lam * mean / basis.shape[1]


@pytest.mark.parametrize("kind", ["near", "far", "nested"])
@pytest.mark.parametrize("mode", ["absolute", "relative"])
def test_equals_the_formulas_in_explicit_bases(kind: str, mode: str) -> None:
    config = GCWMConfig(lambda_mode=mode, lam=1e-4 if mode == "absolute" else 0.5, analysis_rank=6)  # type: ignore[arg-type]
    subspaces = members(kind)
    gammas = Pairs(config).gammas(subspaces)
    for i in range(4):
        assert gammas[i, i] == 0.0
        for j in range(i):
            pair = subspaces[j], subspaces[i]
            basis = union_basis(pair)
            expected = in_basis(basis, pair, lam_of(config, list(pair), basis))
            assert float(gammas[i, j]) == pytest.approx(expected, abs=BOUND)
    signals = state_signals(subspaces[:3], subspaces[3], config)
    for chosen, found in ((subspaces[:3], signals.global_active), (subspaces, signals.global_with_state)):
        basis = union_basis(chosen)
        lam = lam_of(config, chosen, basis)
        every = [in_basis(basis, (a, b), lam) for i, a in enumerate(chosen) for b in chosen[i + 1 :]]
        assert found == pytest.approx(sum(every) / len(every), abs=BOUND)
    assert signals.active_conflict == pytest.approx(mean_pair(gammas[:3, :3]), rel=rounding(3), abs=0)
    assert signals.state_conflict == pytest.approx(float(gammas[3, :3].mean()), rel=rounding(3), abs=0)


@pytest.mark.parametrize("kind", ["near", "far", "nested"])
def test_dimensions_of_a_union_are_those_of_its_basis(kind: str) -> None:
    subspaces = members(kind)
    for first in (1, 2, 3, 4):
        expected = union_basis(subspaces[:first]).shape[1], union_basis(subspaces).shape[1]
        assert union_dims(subspaces, first) == expected


def test_what_is_known_of_a_pair_is_what_would_be_computed() -> None:
    config = GCWMConfig(analysis_rank=6)
    subspaces = members("near")
    known = Pairs(config)
    known.gammas(subspaces[:3])
    state = state_signals(subspaces[:3], subspaces[3], config, known)
    fresh = state_signals(subspaces[:3], subspaces[3], config)
    bound = 4 * rounding(12)  # in a basis of 6 + 6
    torch.testing.assert_close(state.active_mm, fresh.active_mm, rtol=0, atol=bound)
    assert state.global_gap == pytest.approx(fresh.global_gap, abs=bound)
    forward = incoming_conflict(subspaces[0], subspaces[1], config, known)
    assert forward == pytest.approx(incoming_conflict(subspaces[1], subspaces[0], config), abs=bound)
