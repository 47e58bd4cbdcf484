"""What transformers builds from a checkpoint's config.json: its modules and parameters, and which tensors of the
checkpoint they are loaded from.

transformers 5 keeps the experts of a layer in one parameter (experts, d, d'), whatever their checkpoint does, and
renames, stacks, concatenates or transposes what it reads (``transformers.conversion_mapping``).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.checkpoints.header import TensorInfo
from gcwm_viz.checkpoints.index import CheckpointIndex, split_entry
from gcwm_viz.checkpoints.model_config import with_floats
from gcwm_viz.errors import InputError

_LAYERS = re.compile(r"(num_|n_)?((hidden|decoder|encoder)_)?layers?")
"""num_hidden_layers, n_layer, num_layers, decoder_layers, …"""
_EXPERTS = re.compile(r"(\w+_)?experts")
"""num_experts, num_local_experts, n_routed_experts, …"""

# transformers is imported where it is used: reading headers or tables does not need it.


@dataclass(frozen=True)
class Place:
    """Where a tensor of a checkpoint lies in the model's ``parameter``: all of it, the ``entry``-th matrix of a stack,
    or ``rows`` of that. ``swapped``: transformers exchanges the last two dimensions when it loads the tensor."""

    parameter: str
    entry: int | None = None
    rows: tuple[int, int] | None = None
    swapped: bool = False

    def part(self, parameter: Tensor) -> Tensor:
        """The tensor's numbers within its parameter, or within a tensor of that shape, in the checkpoint's layout; a
        view."""
        whole = parameter if self.entry is None else parameter[self.entry]
        rows = whole if self.rows is None else whole[slice(*self.rows)]
        return rows.mT if self.swapped else rows


def empty_model(base: CheckpointIndex) -> Any:
    """The model on the meta device, without weights, of a class built into transformers whatever code the config points
    to. Raises :class:`InputError` where transformers cannot build it."""
    from transformers import AutoConfig

    check_depth(base)
    try:
        config = AutoConfig.for_model(**with_floats(base.config))
        with torch.device("meta"):
            return model_class(config).from_config(config, trust_remote_code=False)
    except Exception as error:  # a config can make transformers raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{base.root}: transformers cannot build the base ({reason})") from error


def model_class(config: Any) -> Any:
    """The automatic class of transformers that has a language model of this config."""
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
    )

    reads_images = (
        type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    )
    return AutoModelForImageTextToText if reads_images else AutoModelForCausalLM


def check_depth(base: CheckpointIndex) -> None:
    """Raises :class:`InputError` for a config that claims more layers than the base has tensors, or more experts than
    it has tensors or matrices in a stack, under any name and in any part of it: transformers would build them all."""
    stacked = max((info.shape[0] for info in base.tensors.values() if len(info.shape) == 3), default=0)
    sections: list[dict[str, Any]] = [base.config]
    while sections:
        for name, value in sections.pop().items():
            if isinstance(value, dict):
                sections.append(value)
            elif _LAYERS.fullmatch(name) and isinstance(value, int) and value > len(base.tensors):
                raise InputError(
                    f"{base.config_file}: {name} is {value}, the base has {len(base.tensors)} tensors in all"
                )
            elif _EXPERTS.fullmatch(name) and isinstance(value, int) and value > max(stacked, len(base.tensors)):
                raise InputError(
                    f"{base.config_file}: {name} is {value}, the base has {len(base.tensors)} tensors in all and at "
                    f"most {stacked} matrices in one"
                )


def place_of(name: str, placed: Mapping[str, Place]) -> Place | None:
    """The place of a tensor of the checkpoint, or of the i-th matrix of a stack, ``name[i]``."""
    if name in placed:
        return placed[name]
    tensor, entry = split_entry(name)
    return replace(placed[tensor], entry=entry) if tensor in placed else None


def places(model: Any, tensors: Mapping[str, TensorInfo]) -> dict[str, Place]:
    """The place in ``model`` of every one of ``tensors`` whose numbers it takes over unchanged, by name."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    mapping = get_model_conversion_mapping(model)
    converters = {
        pattern: entry for entry in mapping if isinstance(entry, WeightConverter) for pattern in entry.source_patterns
    }
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    parameters = dict(model.named_parameters(remove_duplicate=False))
    prefix, placed = model.base_model_prefix, {}
    for name, info in tensors.items():
        full, pattern = rename_source_key(name, renamings, list(dict.fromkeys(converters.values())), prefix, parameters)
        if full not in parameters and (name in parameters or f"{prefix}.{name}" in parameters):
            # As transformers does: a name that it has itself is not renamed.
            full, pattern = name if name in parameters else f"{prefix}.{name}", None
        if full in parameters:
            shape = tuple(parameters[full].shape)
            place = (
                Place(full) if pattern is None else _converted(name, info, full, shape, converters[pattern], pattern)
            )
            if place is not None and _fits(info.shape, shape, place):
                placed[name] = place
    return placed


def _converted(
    name: str, info: TensorInfo, full: str, shape: tuple[int, ...], converter: Any, pattern: str
) -> Place | None:
    """The place under a converter that stacks experts, with their halves one after the other, or that transposes."""
    from transformers.core_model_loading import Concatenate, MergeModulelist, Transpose

    match converter.operations:
        case [Transpose(dim0=1, dim1=2, check_dims=checked)]:
            return Place(full, swapped=not (checked and info.shape == shape))
        case [MergeModulelist(dim=0), *rest]:
            number = re.findall(r"\.(\d+)\.", name)
            entry, sources = int(number[-1]) if number else -1, converter.source_patterns
            if not rest and len(sources) == 1:
                return Place(full, entry)
            match rest:
                case [Concatenate(dim=1)] if len(sources) * info.shape[0] == shape[1]:
                    start = sources.index(pattern) * info.shape[0]
                    return Place(full, entry, (start, start + info.shape[0]))
    return None


def _fits(stored: tuple[int, ...], shape: tuple[int, ...], place: Place) -> bool:
    if place.swapped:
        return len(stored) == 3 and (stored[0], stored[2], stored[1]) == shape
    if place.entry is None:
        return stored == shape
    first, stop = place.rows or (0, shape[1])
    return len(shape) == 3 and 0 <= place.entry < shape[0] and stored == (stop - first, shape[2])


def holds_transposed(model: Any, parameter: str) -> bool | None:
    """Whether the stack ``parameter`` (experts, d, d') is multiplied from the right, d the input's dimension, or d the
    output's. None where neither its module declares it (``is_transposed``) nor its forward shows it.
    """
    module = model.get_submodule(parameter.rpartition(".")[0])
    declared = getattr(module, "is_transposed", None)
    return (
        declared if isinstance(declared, bool) else _multiplied_from_the_right(module, model.get_parameter(parameter))
    )


def _multiplied_from_the_right(module: Any, stack: torch.nn.Parameter) -> bool | None:
    """What the module computes with its parameter, from the graph of its forward on the meta device: x W or x Wᵀ.

    Modules without ``is_transposed`` take the rows of all experts one after the other, as one tensor (Llama 4) or with
    the number of each expert's rows beside it (``expert_size``, JetMoE). A row is as wide as one of the stack's sides.
    """
    experts, *sides = stack.shape
    for width in dict.fromkeys(sides):
        rows = torch.empty(experts, width, dtype=stack.dtype, device="meta")
        for arguments in ((rows,), (rows, [1] * experts)):
            try:
                with torch.enable_grad():
                    output = module(*arguments)
            except Exception:  # another signature or width
                continue
            found = _products(output.grad_fn, stack) if isinstance(output, torch.Tensor) else set()
            if len(found) == 1:
                return found.pop()
    return None


def _products(root: Any, stack: torch.nn.Parameter) -> set[bool]:
    """For every path from a matrix product down to ``stack``: whether its matrices are right operands as they are."""
    found: set[bool] = set()
    seen: set[tuple[Any, bool | None]] = set()
    todo: list[tuple[Any, bool | None]] = [(root, None)]
    while todo:
        node, right = todo.pop()
        if node is None or (node, right) in seen:
            continue
        seen.add((node, right))
        if getattr(node, "variable", None) is stack and right is not None:
            found.add(right)
        for operand, (below, _) in enumerate(node.next_functions):
            match type(node).__name__:
                case "MmBackward0" | "BmmBackward0":
                    todo.append((below, operand == 1))
                case "TBackward0" | "TransposeBackward0" | "PermuteBackward0":
                    todo.append((below, None if right is None else not right))
                case _:
                    todo.append((below, right))
    return found
