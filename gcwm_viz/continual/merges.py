"""The merges of one matrix, one step after another."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from gcwm_viz.checkpoints.reader import check_finite
from gcwm_viz.continual.active_set import ActiveSet, active_set
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.errors import InputError
from gcwm_viz.geometry.layer import LayerGeometry
from gcwm_viz.geometry.member import ANCHOR, Member
from gcwm_viz.linalg.lowrank import LowRank, Update, scaled
from gcwm_viz.merging.merge import Merge
from gcwm_viz.merging.post import scaled_by_depth, svc
from gcwm_viz.merging.registry import get_method
from gcwm_viz.merging.step import MergeStep
from gcwm_viz.updates.matrices import MatrixKey


@dataclass(frozen=True)
class Active:
    """The active set of one step: its members that touch the matrix, the arriving one last, and their weights ω.

    anchor: Δ_merge,t−1 as a member, None where the policy has none.
    """

    number: int
    chosen: ActiveSet
    members: list[Member]
    weights: list[float]
    anchor: Member | None


class Merges:
    """What one step of a matrix passes to the next: Δ_merge,t−1 (``previous``, None at first) and what a sequential
    method carries. ``members``: every update, by arrival. ``layers``: how many the model has, which LiNeS needs.

    A step after the merge acts on what the model gets: the anchor of the next step and the state of a sequential method
    are the merge before it, or it would act again and again on the same updates.
    """

    def __init__(
        self,
        key: MatrixKey,
        names: Sequence[str],
        deltas: Sequence[Update | None],
        settings: RunSettings,
        layers: int | None = None,
    ) -> None:
        self.key, self.settings, self.layers = key, settings, layers
        self.members = [Member.of(name, delta, settings.gcwm) for name, delta in zip(names, deltas, strict=True)]
        devices = (member.delta.device for member in self.members if member.delta is not None)
        self.device = next(devices, torch.device("cpu"))
        self.previous: Update | None = None
        self._unposted: Update | None = None
        self._carried: dict[str, float] = {}

    def active(self, number: int) -> Active:
        """The active set of step 1, 2, …"""
        chosen = active_set(number, self.settings.continual)
        anchor = Member.of(ANCHOR, self._unposted, self.settings.gcwm) if chosen.anchored else None
        candidates = [anchor] * (anchor is not None) + [self.members[index] for index in chosen.indices]
        weighted = [(m, w) for m, w in zip(candidates, chosen.weights, strict=True) if m and m.delta is not None]
        members, weights = [member for member, _ in weighted], [weight for _, weight in weighted]
        return Active(number, chosen, members, weights, anchor)

    def merge(self, active: Active, geometry: LayerGeometry) -> tuple[Merge, Update]:
        """The method's result at one step, and Δ_merge in float32, which is ``previous`` from then on.

        Raises :class:`InputError` where it is not finite, naming the matrix.
        """
        number, arriving = active.number, self.members[active.number - 1]
        step = MergeStep(
            deltas=[member.delta for member in active.members if member.delta is not None],
            # The anchor is another matrix at every step, and a random mask of it must be another one too.
            names=[f"{ANCHOR} {number}" if member is active.anchor else member.name for member in active.members],
            weights=active.weights,
            geometry=geometry,
            previous=self._unposted,
            arriving=arriving.delta,
            norms=[m.total_energy**0.5 for m in self.members[:number] if m.delta is not None],
            matrix=self.key.name,
            shape=self.key.shape,
            config=self.settings.gcwm,
            settings=self.settings.options,
            carried=self._carried,
        )
        merge = get_method(self.settings.method).merge(step)
        merged = self._unposted = merge.rounded.to(device=self.device)  # of no active update it is zeros on the CPU
        if self.settings.continual.post != "none":
            merge = self._posted(merge, step)
            merged = merge.rounded.to(device=self.device)
        for part in (merged.left_or, merged.right_ri) if isinstance(merged, LowRank) else (merged,):
            check_finite(part, f"matrix {self.key.name!r}: the merge of step {number} ({arriving.name})")
        self.previous = merged
        return merge, merged

    def _posted(self, merge: Merge, step: MergeStep) -> Merge:
        """The merge after the step that the settings name."""
        continual = self.settings.continual
        if continual.post == "svc":
            return svc(merge, [scaled(delta, weight) for _, delta, weight in step.active()], continual.svc_alpha)
        if self.layers is None:
            raise ValueError("LiNeS scales by depth: expected the number of layers, found none")
        return scaled_by_depth(merge, self.key.layer, self.layers, continual.lines_alpha, continual.lines_beta)


@contextmanager
def named_decompositions(key: MatrixKey) -> Iterator[None]:
    """:class:`InputError` with the matrix where a decomposition inside the block fails."""
    try:
        yield
    except torch.linalg.LinAlgError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"matrix {key.name!r}: its updates cannot be decomposed ({reason}); expected updates of an ordinary scale"
        ) from None
