"""Experts of an update in the layout of its base: a stack is one matrix an expert, whichever of the two stacks them."""

from dataclasses import replace

from gcwm_viz.checkpoints.architecture import empty_model, places
from gcwm_viz.checkpoints.header import TensorInfo
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError
from gcwm_viz.updates.matrices import entries, is_stack, stacked_experts
from gcwm_viz.updates.source import UpdateSource
from gcwm_viz.updates.stacks import stack_layouts
from gcwm_viz.updates.towers import block_position


def in_base_layout(tensors: dict[str, TensorInfo], base: CheckpointIndex) -> dict[str, TensorInfo]:
    """``tensors``, under the base's names, with a stack of the base as its matrices ``tensor[i]``.

    What only one of the two stacks is paired where transformers loads both into the same numbers of the same parameter;
    the rest keeps its name. Raises InputError for a stack of another shape than the base's.
    """
    stacks = stacked_experts(base)
    if _differ(tensors, base, stacks):
        tensors = _by_place(tensors, base)
    matrices: dict[str, TensorInfo] = {}
    for name, info in tensors.items():
        stack = stacks.get(name)
        if stack is None:
            matrices[name] = info
        elif info.shape != stack.shape:
            raise InputError(
                f"{info.path}: tensor {info.name!r} has shape {info.shape}, expected {stack.shape} as in {stack.path}"
            )
        else:
            matrices |= {matrix: info.part(entry) for entry, matrix in enumerate(entries(stack))}
    return matrices


def _differ(tensors: dict[str, TensorInfo], base: CheckpointIndex, stacks: dict[str, TensorInfo]) -> bool:
    """Whether one of the two has stacks that the other lacks, and something else in their place."""
    foreign = [name for name in tensors if name not in base.tensors and block_position(name) is not None]
    stacked = any(is_stack(name, tensors[name].shape, base) for name in foreign)
    return stacked or (bool(foreign) and not stacks.keys() <= tensors.keys())


def _by_place(tensors: dict[str, TensorInfo], base: CheckpointIndex) -> dict[str, TensorInfo]:
    try:
        model = empty_model(base)
    except InputError:
        return tensors
    own = {place: name for name, place in places(model, tensors).items() if not place.swapped}
    stacks, found, paired = stacked_experts(base), {}, set()
    for name, place in places(model, base.tensors).items():
        if name in tensors or place.swapped:
            continue
        matrices = entries(stacks[name]) if name in stacks else []
        apart = {matrix: own.get(replace(place, entry=entry)) for entry, matrix in enumerate(matrices)}
        alike, stack = own.get(place), own.get(replace(place, entry=None, rows=None))
        if alike is not None:
            found[name] = tensors[alike]
        elif stack is not None and place.entry is not None:
            found[name] = tensors[stack].part(place.entry, place.rows)
        found |= {matrix: tensors[one] for matrix, one in apart.items() if one is not None}
        paired |= {alike, stack, *apart.values()}
    return {name: info for name, info in tensors.items() if name not in paired} | found


def check_experts(base: CheckpointIndex, source: UpdateSource) -> None:
    """Raises InputError when ``source`` holds experts that cannot be paired with the base's: those of a stack whose
    layout is not known, and those that only one of the two stacks. An update that leaves them out, such as an adapter
    on the attention, is merged."""
    stacks = stacked_experts(base)
    covered = source.shapes() | source.others()
    layouts = stack_layouts(base, tuple(stacks.values())) if stacks else {}
    for name, layout in layouts.items():
        if isinstance(layout, str) and not covered.keys().isdisjoint((name, *entries(stacks[name]))):
            raise InputError(
                f"{source.path}: tensor {name!r} stacks the experts of a layer in shape {stacks[name].shape}, and "
                f"whether each is stored (d_out, d_in) or (d_in, d_out) is not known: {layout}; give the base with the "
                "config.json of an architecture that transformers has, or an update that leaves the experts out"
            )
    absent = any(covered.keys().isdisjoint(entries(stack)) for stack in stacks.values())
    for name, shape in covered.items():
        if base.holds(name) or block_position(name) is None:
            continue
        if is_stack(name, shape, base) or (absent and len(shape) == 2 and sum(map(str.isdecimal, name.split("."))) > 1):
            raise InputError(
                f"{source.path}: tensor {name!r} of shape {shape} holds experts in another layout than the base "
                f"{base.root}, where no tensor has the same matrices; load both with transformers and save both with "
                "save_pretrained(NEW_DIR), which gives them one layout"
            )
