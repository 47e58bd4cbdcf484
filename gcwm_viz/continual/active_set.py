"""The active set: the updates that a step merges, and their weights (METHOD section 3)."""

from dataclasses import dataclass

from gcwm_viz.continual.sequence import ContinualConfig


@dataclass(frozen=True)
class ActiveSet:
    """Indices of the active updates (0-based, the arriving one last), whether Δ_merge,t−1 is a member, weights ω."""

    indices: tuple[int, ...]
    anchored: bool
    weights: tuple[float, ...]


def active_set(step: int, config: ContinualConfig) -> ActiveSet:
    """Active set of step 1, 2, …; weights in the order anchor, earlier updates, arriving update."""
    current = step - 1
    if config.policy == "current_anchor":
        anchored = step > 1
        return ActiveSet((current,), anchored, (config.old_weight,) * anchored + (config.new_weight,))
    first = 0 if config.memory is None else max(0, step - config.memory)
    return ActiveSet(tuple(range(first, step)), False, (config.old_weight,) * (current - first) + (config.new_weight,))
