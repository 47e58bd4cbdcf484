"""The state S_t from merged updates (Sec. 4.3)."""

from collections.abc import Callable

import torch

from gcwm_viz.continual.sequence import ContinualConfig
from gcwm_viz.linalg.lowrank import Update, dense, scaled


def integrate(
    state: Update | None, merged: Update, previous: Update | None, continual: ContinualConfig, step: int
) -> Update:
    """S_t = S_{t−1} + η_t (Δ_merge,t − Δ_merge,t−1), both zero before the first step (Sec. 4.3).

    With constant η the sum telescopes to ηΔ_merge,t, which needs no earlier step and rounds once.
    """
    if continual.decay == 1.0:
        return scaled(merged, continual.eta)
    change = dense(merged) if previous is None else dense(merged) - dense(previous)
    eta = continual.step_eta(step)
    return eta * change if state is None else torch.add(dense(state), change, alpha=eta)


def entering(step: int, continual: ContinualConfig) -> range:
    """The steps whose Δ_merge enter S_t: with constant η its own alone."""
    return range(step if continual.decay == 1.0 else 1, step + 1)


def state_of(step: int, merged: Callable[[int], Update], continual: ContinualConfig) -> Update:
    """S_t from Δ_merge of every step that enters it, as ``merged`` returns them."""
    state = previous = None
    for at in entering(step, continual):
        current = merged(at)
        state, previous = integrate(state, current, previous, continual, at), current
    assert state is not None
    return state
