"""Layout of experts that a checkpoint stacks in one tensor (experts, d, d').

Whether their matrices are (d_out, d_in) or (d_in, d_out) is a matter of the architecture; neither sizes nor values show
it. transformers' model of the base's config.json does, without weights.
"""

from functools import lru_cache

from gcwm_viz.checkpoints.architecture import empty_model, holds_transposed, places
from gcwm_viz.checkpoints.header import TensorInfo
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError


@lru_cache(maxsize=8)
def stack_layouts(base: CheckpointIndex, stacks: tuple[TensorInfo, ...]) -> dict[str, bool | str]:
    """By name of a stack of ``base``: whether it stores (d_in, d_out), or the reason why that is not known."""
    if not base.config.get("model_type"):
        return {info.name: "the base has no config.json that names its architecture" for info in stacks}
    try:
        model = empty_model(base)
    except InputError as error:
        return {info.name: str(error) for info in stacks}
    placed = places(model, {info.name: info for info in stacks})
    layouts: dict[str, bool | str] = {}
    for info in stacks:
        place = placed.get(info.name)
        transposed = None if place is None else holds_transposed(model, place.parameter)
        if not info.is_floating:
            layouts[info.name] = f"it has dtype {info.dtype}, expected F64, F32, F16 or BF16"
        elif place is None:
            layouts[info.name] = f"transformers' {type(model).__name__} has no parameter of experts in its place"
        elif transposed is None:
            layouts[info.name] = f"transformers' {type(model).__name__} does not show how it multiplies them"
        else:
            layouts[info.name] = transposed != place.swapped
    return layouts
