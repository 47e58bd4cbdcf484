"""How the merged updates of a step are kept as tensors: whole, or as factors where they are factored.

``plain.3`` and ``geo.3`` are the branches of step 3, ``merged.3`` what a method without branches gives, float32 and
(d_out, d_in). A factored update has ``plain_left.3`` (d_out, k) in place of ``plain.3``, and all factored updates of a
step share one ``right.3`` (k, d_in). Shape suffixes: o = d_out, i = d_in, k = columns of the factors.
"""

from collections.abc import Callable, Collection

from torch import Tensor

from gcwm_viz.linalg.lowrank import LowRank, Update


def tensors_of(name: str, step: int, update: Update) -> dict[str, Tensor]:
    """The tensors that keep one update of a step, float32 and on the processor."""
    if isinstance(update, LowRank):
        parts = {f"{name}_left.{step}": update.left_or, f"right.{step}": update.right_ri}
    else:
        parts = {f"{name}.{step}": update}
    return {at: part.float().cpu().contiguous() for at, part in parts.items()}


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
