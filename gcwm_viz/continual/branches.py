"""Merged updates of a step as stored tensors: dense, or as factors where they are factored.

``plain.3`` and ``geo.3`` are two branches of step 3, ``merged.3`` the result of a method with one branch, float32 and
(d_out, d_in). A factored update has ``plain_left.3`` (d_out, k) in place of ``plain.3``, and all factored updates of a
step share one ``right.3`` (k, d_in). Shape suffixes: o = d_out, i = d_in, k = columns of the factors.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from gcwm_viz.continual.transfer import to_host
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import LowRank, Update
from gcwm_viz.merging.merge import MERGED, mixed
from gcwm_viz.signals.step import Step


@dataclass(frozen=True)
class Branches:
    """The stored updates of one matrix at one step, by branch: (d_out, d_in) float32."""

    updates: dict[str, Update]

    def blend(self, alpha: float, mode: str) -> Update:
        """Δ_merge; α and mode are ignored where there is one branch."""
        return mixed(self.updates, alpha, mode)


def step_tensors(step: Step) -> dict[str, Tensor]:
    """The tensors of one step, float32 and on the CPU, as :func:`to_host` leaves them."""
    updates = {MERGED: step.merged}
    if step.merge is not None:
        updates = {name: branch.update for name, branch in step.merge.branches.items()}
        updates = updates if len(updates) > 1 else dict.fromkeys([MERGED], *updates.values())
    return stored_tensors(updates, step.number)


def stored_tensors(updates: Mapping[str, Update], step: int) -> dict[str, Tensor]:
    """``updates`` of one step by branch, as tensors by name."""
    tensors: dict[str, Tensor] = {}
    for name, update in updates.items():
        if isinstance(update, LowRank):
            parts = {f"{name}_left.{step}": update.left_or, f"right.{step}": update.right_ri}
        else:
            parts = {f"{name}.{step}": update}
        tensors |= {key: to_host(part.float().contiguous()) for key, part in parts.items()}
    return tensors


def update_of(name: str, step: int, stored: Collection[str], get: Callable[[str], Tensor]) -> Update | None:
    """The update ``name`` among tensors named ``stored``; None where it is missing or its factors do not fit."""
    if f"{name}.{step}" in stored:
        return get(f"{name}.{step}")
    left, right = f"{name}_left.{step}", f"right.{step}"
    if left in stored and right in stored:
        left_ok, right_ki = get(left), get(right)
        if left_ok.ndim == right_ki.ndim == 2 and left_ok.shape[1] == right_ki.shape[0]:
            return LowRank(left_ok, right_ki)
    return None


def read_branches(
    file: Path, step: int, shape: tuple[int, int], branches: Sequence[str], goes_on: str = "resume"
) -> Branches:
    """The updates of one step in ``file``, of a method with these ``branches``.

    ``goes_on``: the command that computes them again. Raises :class:`InputError` where they are damaged or not of this
    ``shape``.
    """
    try:
        with safe_open(file, framework="pt") as handle:
            stored = set(handle.keys())
            single = len(branches) == 1 or stored & {f"{MERGED}.{step}", f"{MERGED}_left.{step}"}
            names = [MERGED] if single else list(branches)
            updates = {name: update_of(name, step, stored, handle.get_tensor) for name in names}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} is damaged ({error}); {goes_on} computes it again") from None
    complete = {name: update for name, update in updates.items() if update is not None and tuple(update.shape) == shape}
    if len(complete) < len(updates):
        raise InputError(f"{file} is damaged (step {step} is not in it whole); {goes_on} computes it again")
    return Branches(complete)
