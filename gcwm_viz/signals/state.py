"""Signals of one matrix at one step: active updates among themselves and against the state (Sec. 3, App. E)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.linalg.subspace import RightSubspace, union_dims
from gcwm_viz.signals.pairwise import Pairs, mean_pair

NAN = float("nan")


@dataclass(frozen=True)
class StateSignals:
    """All in [0, 1] (gaps in [-1, 1]), higher = more conflict; NaN where fewer than two geometries are defined.

    active_conflict A_t, state_conflict M_t, state_gap M_t − A_t: pair bases. global_active G_t, global_with_state
    G⁺_t, global_gap G⁺_t − G_t: one basis. ``active_mm`` (m, m) and ``state_m`` (m,) hold the γ of single pairs.
    """

    active_conflict: float
    state_conflict: float
    state_gap: float
    global_active: float
    global_with_state: float
    global_gap: float
    active_mm: Tensor
    state_m: Tensor


def state_signals(
    active: Sequence[RightSubspace], state: RightSubspace | None, config: GCWMConfig, pairs: Pairs | None = None
) -> StateSignals:
    """Signals of m ≥ 0 active updates and the state S_t, None when that is exactly zero in this matrix.

    ``pairs``: the cache of pairs from earlier steps of the same matrix.
    """
    m = len(active)
    pairs = pairs or Pairs(config)
    members = [*active, state] if state is not None else list(active)
    gammas = pairs.gammas(members)
    active_mm = gammas[:m, :m]
    state_m = gammas[m, :m] if state is not None else torch.full((m,), NAN, dtype=torch.float64)
    active_conflict = mean_pair(active_mm)
    state_conflict = float(state_m.mean()) if m else NAN
    global_active = global_with_state = NAN
    if m > 1 or (m == 1 and state is not None):
        dim_active, dim_all = union_dims(members, m)
        global_active = pairs.mean_in_one_basis(active, dim_active)
        global_with_state = pairs.mean_in_one_basis(members, dim_all) if state is not None else NAN
    return StateSignals(
        active_conflict=active_conflict,
        state_conflict=state_conflict,
        state_gap=state_conflict - active_conflict,
        global_active=global_active,
        global_with_state=global_with_state,
        global_gap=global_with_state - global_active,
        active_mm=active_mm,
        state_m=state_m,
    )


def incoming_conflict(
    state_before: RightSubspace | None, arriving: RightSubspace | None, config: GCWMConfig, pairs: Pairs | None = None
) -> float:
    """γ between S_{t−1} and the arriving Δ_t in [0, 1], known before the step; NaN where one of them is absent."""
    if state_before is None or arriving is None:
        return NAN
    return float((pairs or Pairs(config)).gammas([state_before, arriving])[0, 1])
