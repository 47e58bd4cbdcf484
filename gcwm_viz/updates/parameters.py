"""LoRA on a parameter that stacks experts (PEFT's ``target_parameters``), as the factors of every expert's matrix.

PEFT keeps the factors of all experts of a parameter (E, d, d') in one pair, A (E·r, n) and B (m, r·E): those of expert
e are the rows e·r … e·r + r − 1 of A and the columns e, E + e, 2E + e, … of B (``peft.tuners.lora.ParamWrapper``). B A
is the update in the parameter's layout where (m, n) = (d, d'), and its transpose where (m, n) = (d', d); which of the
two depends on PEFT's version and on what the module declares. Several parameters of a module are wrapped one around
the other in the order in which the module has them, and names in the file show the level alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.checkpoints.adapters import Adapter
from gcwm_viz.checkpoints.architecture import Place, empty_model, holds_transposed, places
from gcwm_viz.checkpoints.header import TensorInfo
from gcwm_viz.checkpoints.index import ADAPTER_CONFIG, CheckpointIndex
from gcwm_viz.checkpoints.lora import rank_of, scaling_of
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import LowRank
from gcwm_viz.updates.matrices import entries, stacked_experts

_LEVEL = ".base_layer"


@dataclass(frozen=True)
class ExpertFactors:
    """The update of one expert's matrix, or of its ``rows``: the pair ``a`` and ``b`` of all ``experts`` of a
    parameter, and the factor that multiplies B A. ``flipped``: in Linear layout (d_out, d_in) it is (B A)ᵀ."""

    module: str
    a: TensorInfo
    b: TensorInfo
    scaling: float
    expert: int
    experts: int
    rows: tuple[int, int] | None
    flipped: bool

    @property
    def rank(self) -> int:
        return self.a.shape[0] // self.experts

    @property
    def tensors(self) -> list[TensorInfo]:
        return [self.a, self.b]

    @property
    def needs_weight(self) -> bool:
        return False

    @property
    def nbytes(self) -> int:
        return (self.a.nbytes + self.b.nbytes) // self.experts

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in) in Linear layout."""
        sides = self.a.shape[1], self.b.shape[0]
        d_out, d_in = sides if self.flipped else sides[::-1]
        return (self.rows[1] - self.rows[0] if self.rows else d_out), d_in

    def read(self, dtype: torch.dtype, weight: Callable[[], Tensor]) -> LowRank:
        """The update as factors in ``dtype``, the scaling multiplied into the left one; it needs no ``weight``."""
        a_rn = read_tensor(self.a, slice(self.expert * self.rank, (self.expert + 1) * self.rank)).to(dtype)
        b_mr = read_tensor(self.b)[:, self.expert :: self.experts].to(dtype)
        left_or, right_ri = (a_rn.mT, b_mr.mT) if self.flipped else (b_mr, a_rn)
        return LowRank(left_or[slice(*self.rows)] * self.scaling if self.rows else left_or * self.scaling, right_ri)


def expert_factors(adapter: Adapter, base: CheckpointIndex) -> dict[str, ExpertFactors]:
    """The factors of ``adapter.parameters`` by the base's matrices, whether it stacks the experts or keeps them apart.

    Raises InputError for a parameter that the base's architecture does not have, or that is not in the checkpoint as it
    is in the model, for factors that do not fit it, and for square matrices where nothing tells B A from its transpose.
    """
    if not adapter.parameters:
        return {}
    model = empty_model(base)
    pairs = {name: pair for module in _modules(adapter) for name, pair in _named(module, adapter, model).items()}
    held = _held(model, base)
    factors: dict[str, ExpertFactors] = {}
    for name, (a, b) in pairs.items():
        experts = _experts(name, a, b, adapter, model)
        transposed, straight = holds_transposed(model, name), _straight(name, pairs, adapter, model)
        if transposed is None or name not in held:
            raise _fault(adapter, a, f"adapts {name!r}, which is not as in the base's checkpoint {base.root}")
        scaling = scaling_of(name, adapter.index.config, adapter.index.root / ADAPTER_CONFIG)
        for matrix, place in held[name]:
            assert place.entry is not None
            flipped = straight == transposed
            factors[matrix] = ExpertFactors(name, a, b, scaling, place.entry, experts, place.rows, flipped)
    return factors


def _modules(adapter: Adapter) -> list[str]:
    return list(dict.fromkeys(name.replace(_LEVEL, "") for name in adapter.parameters))


def _named(module: str, adapter: Adapter, model: Any) -> dict[str, tuple[TensorInfo, TensorInfo]]:
    """The pairs of a module by the full name of their parameter: PEFT wraps the first parameter innermost."""
    levels = sorted((name for name in adapter.parameters if name.replace(_LEVEL, "") == module), key=len, reverse=True)
    chosen = [str(target) for target in adapter.index.config["target_parameters"]]
    try:
        own = [f"{module}.{name}" for name, _ in model.get_submodule(module).named_parameters(recurse=False)]
    except AttributeError:
        own = []
    targeted = [name for name in own if any(name == target or name.endswith(f".{target}") for target in chosen)]
    if len(targeted) != len(levels):
        a, _ = adapter.parameters[levels[0]]
        raise _fault(
            adapter,
            a,
            f"is one of {len(levels)} that adapt parameters of {module!r}, of which the base's architecture has "
            f"{', '.join(targeted) or 'none'}",
        )
    return {name: adapter.parameters[level] for name, level in zip(targeted, levels, strict=True)}


def _experts(name: str, a: TensorInfo, b: TensorInfo, adapter: Adapter, model: Any) -> int:
    """Number of experts of the parameter, for factors that fit it."""
    shape: tuple[int, ...] = tuple(model.get_parameter(name).shape)
    rank = rank_of(name, adapter.index.config, adapter.index.root / ADAPTER_CONFIG)
    experts, sides = shape[0], shape[1:]
    if (
        len(shape) != 3
        or not a.shape[0] == b.shape[1] == rank * experts
        or (b.shape[0], a.shape[1]) not in (sides, sides[::-1])
    ):
        expected = f"expected factors of rank {rank:g} for {name!r} of shape {shape}"
        raise _fault(adapter, a, f"of shape {a.shape} has the partner {b.shape}, {expected}")
    return experts


def _straight(name: str, pairs: dict[str, tuple[TensorInfo, TensorInfo]], adapter: Adapter, model: Any) -> bool:
    """Whether B A is the update in the parameter's own layout, rather than its transpose.

    Every version of PEFT transposes where the module declares ``is_transposed``. Elsewhere the versions differ, and a
    parameter that is not square shows which it was."""
    if _declares(name, model):
        return False
    for other, (a, b) in pairs.items():
        _, rows, columns = model.get_parameter(other).shape
        if rows != columns and not _declares(other, model):
            return bool((b.shape[0], a.shape[1]) == (rows, columns))
    raise _fault(
        adapter,
        pairs[name][0],
        f"adapts {name!r} of square matrices, for which PEFT's versions differ in layout; merge it with the version "
        "that it was trained with: merge_and_unload() and save_pretrained(NEW_DIR)",
    )


def _declares(name: str, model: Any) -> bool:
    return getattr(model.get_submodule(name.rpartition(".")[0]), "is_transposed", False) is True


def _held(model: Any, base: CheckpointIndex) -> dict[str, list[tuple[str, Place]]]:
    """The base's expert matrices by the parameter that they are in."""
    stacks = stacked_experts(base)
    held: dict[str, list[tuple[str, Place]]] = {}
    for name, place in places(model, base.tensors).items():
        if name in stacks:
            parts = [(matrix, replace(place, entry=entry)) for entry, matrix in enumerate(entries(stacks[name]))]
        else:
            parts = [] if place.entry is None else [(name, place)]
        held.setdefault(place.parameter, []).extend(parts)
    return {name: parts for name, parts in held.items() if parts}


def _fault(adapter: Adapter, info: TensorInfo, what: str) -> InputError:
    return InputError(f"{adapter.index.root}: tensor {info.name!r} {what}")
