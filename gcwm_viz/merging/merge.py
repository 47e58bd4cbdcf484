"""A merge method, and its result for one matrix at one step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.linalg.lowrank import Update, lerp
from gcwm_viz.merging.recipe import MergekitModels, Recipe
from gcwm_viz.settings.declare import Settings

if TYPE_CHECKING:
    from gcwm_viz.merging.solvers import Solution
    from gcwm_viz.merging.step import MergeStep

NAN = float("nan")
MERGED = "merged"
"""The branch of a method that has one, and the mode of its merges."""
ABSENT = "absent"
"""The mode of a merge without an active update."""
BLEND = "blend"
TRAINED = "trained"
"""The mode of a step that describes a given state, where nothing was merged."""


@dataclass(frozen=True)
class Branch:
    """One result (d_out, d_in) of a merge. solution: of the inner solver, None without one. shift: how far that moved
    the branch, ‖branch − Σ Δ_i‖_F / ‖Σ Δ_i‖_F, NaN where the sum is zero or there was no solver."""

    update: Update
    solution: "Solution | None" = None
    shift: float = NAN


@dataclass(frozen=True, kw_only=True)
class Merge:
    """The branches of one matrix at one step by name, as the method declares them, and how they are mixed.

    One branch is Δ_merge itself. Of two, Δ_merge = (1 − α) first + α second in mode ``blend``, or the branch that
    ``mode`` names; ``absent`` is the first, which is zero. displacement: distance of the two in the merge metric.
    """

    branches: Mapping[str, Branch]
    alpha: float = NAN
    mode: str = MERGED
    displacement: float = NAN

    @classmethod
    def of(cls, update: Update) -> "Merge":
        """The merge of a method with one branch and no solver."""
        return cls(branches={MERGED: Branch(update)})

    @property
    def merged(self) -> Update:
        """Δ_merge (d_out, d_in) in the precision of its branches."""
        return mixed({name: branch.update for name, branch in self.branches.items()}, self.alpha, self.mode)

    @property
    def rounded(self) -> Update:
        """The same from branches rounded to float32, as they are stored."""
        single = {name: branch.update.to(dtype=torch.float32) for name, branch in self.branches.items()}
        return mixed(single, self.alpha, self.mode)


def mixed(branches: Mapping[str, Update], alpha: float, mode: str) -> Update:
    """Δ_merge of :class:`Merge` from its branches; for GCWM equation 10."""
    updates = list(branches.values())
    if mode == BLEND:
        first, second = updates
        return lerp(first, second, alpha)
    return branches.get(mode, updates[0])


@dataclass(frozen=True, kw_only=True)
class MergeMethod:
    """A named merge method: one file that declares it, its settings and its formula.

    name: as ``--method`` takes it. source: the paper. summary: one line for lists and forms.
    merge: returns the unscaled Δ_merge of one matrix at one step; pure, deterministic, on the updates' device.
    settings: the method's own group of settings, ``step.settings`` in ``merge``. main: names of other settings that the
    form shows first, because the result depends on them most.
    branches: names of what ``merge`` returns; two are mixed by a gate. factored: whether, under a configuration, a
    merge of adapters stays in their span, and is stored as factors. sequential: defined one update at a time, so that
    the result depends on their order; only such a method may read ``step.previous`` and ``step.carried``, since the
    final state of the others is merged without the steps before. uses_probes: whether it uses probe data; the others
    are data-free.
    conflict_gate: whether α of its two branches is that of equation 6, so that another gate needs no new merge.
    mergekit: the same merge as a mergekit configuration, None where mergekit does not have the method.
    eta: its default η, None for that of the preset.
    """

    name: str
    source: str
    summary: str
    merge: "Callable[[MergeStep], Merge]"
    settings: type[Settings] = Settings
    main: tuple[str, ...] = ()
    branches: tuple[str, ...] = (MERGED,)
    factored: Callable[[GCWMConfig], bool] = field(default=lambda config: False)
    sequential: bool = False
    uses_probes: bool = False
    conflict_gate: bool = False
    mergekit: Callable[[MergekitModels], Recipe] | None = None
    eta: float | None = 1.0

    def __post_init__(self) -> None:
        reserved = {MERGED, BLEND, ABSENT, TRAINED, "right"} if len(self.branches) > 1 else set()
        if not 1 <= len(self.branches) <= 2 or reserved & set(self.branches):
            raise ValueError(
                f"merge method {self.name!r} must declare one branch, or two by names other than {sorted(reserved)}, "
                f"got {self.branches}"
            )
