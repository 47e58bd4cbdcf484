"""How the merged updates of a step are kept as tensors: whole, or as factors where they are factored.

``plain.3`` and ``geo.3`` are the branches of step 3, ``merged.3`` what a method without branches gives, float32 and
(d_out, d_in). A factored update has ``plain_left.3`` (d_out, k) in place of ``plain.3``, and all factored updates of a
step share one ``right.3`` (k, d_in). Shape suffixes: o = d_out, i = d_in, k = columns of the factors.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from gcwm_viz.continual.transfer import to_host
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import LowRank, Update
from gcwm_viz.merging.gcwm import blend


@dataclass(frozen=True)
class Branches:
    """What is kept of one matrix at one step: ``plain`` and ``geo``, or ``merged`` alone. (d_out, d_in) float32."""

    plain: Update | None
    geo: Update | None
    merged: Update | None

    def blend(self, alpha: float, mode: str) -> Update:
        """Δ_merge; α and mode are ignored where the method has no branches."""
        if self.merged is not None:
            return self.merged
        assert self.plain is not None
        assert self.geo is not None
        return blend(self.plain, self.geo, alpha, mode)


def tensors_of(name: str, step: int, update: Update) -> dict[str, Tensor]:
    """The tensors that keep one update of a step, float32 and on the CPU, as :func:`to_host` leaves them."""
    if isinstance(update, LowRank):
        parts = {f"{name}_left.{step}": update.left_or, f"right.{step}": update.right_ri}
    else:
        parts = {f"{name}.{step}": update}
    return {at: to_host(part.float().contiguous()) for at, part in parts.items()}


def update_of(name: str, step: int, held: Collection[str], get: Callable[[str], Tensor]) -> Update | None:
    """The update that tensors named ``held`` keep; None where it is not there, or its factors do not fit."""
    if f"{name}.{step}" in held:
        return get(f"{name}.{step}")
    left, right = f"{name}_left.{step}", f"right.{step}"
    if left in held and right in held:
        left_ok, right_ki = get(left), get(right)
        if left_ok.ndim == right_ki.ndim == 2 and left_ok.shape[1] == right_ki.shape[0]:
            return LowRank(left_ok, right_ki)
    return None


def read_branches(file: Path, step: int, shape: tuple[int, int]) -> Branches:
    """What ``file`` keeps of one step. Raises :class:`InputError` where that is damaged or not of this ``shape``."""
    try:
        with safe_open(file, framework="pt") as handle:
            held = set(handle.keys())
            found = {name: update_of(name, step, held, handle.get_tensor) for name in ("plain", "geo", "merged")}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} is damaged ({error}); resume computes it again") from None
    branches = Branches(**found)
    for update in (branches.plain, branches.geo) if branches.merged is None else (branches.merged,):
        if update is None or tuple(update.shape) != shape:
            raise InputError(f"{file} is damaged (step {step} is not in it whole); resume computes it again")
    return branches
