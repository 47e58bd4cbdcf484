"""Names in transformers of the modules whose weights a checkpoint holds: they can differ by a prefix.

Since version 5 transformers stacks the experts of a layer in one tensor in memory, while checkpoints keep them apart.
Adapters keep them apart too: PEFT (from 0.19 on) stacks their factors when it loads them, if all are there.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gcwm_viz.checkpoints.architecture import empty_model
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError
from gcwm_viz.updates.matrices import MatrixKey, target_matrices
from gcwm_viz.updates.naming import base_names

# Model types whose experts (and Mixtral's router, which has another path in memory) PEFT finds under the checkpoint's
# names.
_STACKED_BY_PEFT = frozenset({"mixtral", "qwen3_moe"})
_STACKED = re.compile(r".*\.(experts\.\d+\.\w+|block_sparse_moe\.gate)\.weight")
_EXPERT = re.compile(r".*\.experts\.\d+\.\w+\.weight")

# Model types whose kernels bypass PEFT for these modules' weights, so that PEFT refuses to adapt them.
_MAMBA = frozenset({"mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h"})
_MAMBA_REFUSED = frozenset({"out_proj", "conv1d"})


@dataclass(frozen=True)
class Modules:
    """Module of the loaded model by tensor name of the checkpoint, and the names of all modules it has. ``experts``:
    every expert's matrices where they are stacked in memory; an adapter holds all of them or none."""

    of: dict[str, str]
    all: frozenset[str]
    experts: tuple[MatrixKey, ...] = ()

    def targets(self, names: Sequence[str]) -> list[str]:
        """``names`` as PEFT's target_modules: their last parts where these select the same modules, else in full."""
        modules = {self.of[name] for name in names}
        leaves = {module.rsplit(".", 1)[-1] for module in modules}
        selected = {module for module in self.all if module.rsplit(".", 1)[-1] in leaves}
        return sorted(leaves if selected == modules & self.all else modules)


def module_names(base: CheckpointIndex, keys: Sequence[MatrixKey]) -> Modules:
    """The modules of ``keys`` in transformers; the model is built on the meta device, without weights.

    Raises :class:`InputError` for a base that transformers does not know, and for a weight that no adapter can hold.
    """
    model = empty_model(base)
    kind, prefix = base.config.get("model_type"), model.base_model_prefix
    existing = frozenset(name for name, _ in model.named_modules())
    held = base_names({name: tuple(parameter.shape) for name, parameter in model.named_parameters()}, base)
    in_memory = {own: name for name, own in held.items()}
    stacked = _stacked(base) if kind in _STACKED_BY_PEFT else {}
    names = {}
    for key in (*keys, *stacked.values()):
        module = key.name.removesuffix(".weight")
        full = in_memory[key.name].removesuffix(".weight") if key.name in in_memory else None
        if full is None and key.name in stacked:
            full = module if module.startswith(f"{prefix}.") else f"{prefix}.{module}"
        if full is None:
            raise InputError(
                f"{base.root}: {key.name!r} is no module of its own in transformers, such as an expert that is fused "
                "with others, so no adapter can hold its update; export the whole checkpoint"
            )
        if kind in _MAMBA and full.rsplit(".", 1)[-1] in _MAMBA_REFUSED:
            raise InputError(
                f"{base.root}: PEFT does not adapt {key.name!r} of a {kind} model, whose kernels read that weight past "
                "the adapter; export the whole checkpoint"
            )
        names[key.name] = full
    return Modules(names, existing, tuple(key for key in stacked.values() if _EXPERT.fullmatch(key.name)))


def _stacked(base: CheckpointIndex) -> dict[str, MatrixKey]:
    """The matrices that are parts of a stack in memory; none where a module beside the stacks ends in the same name,
    which PEFT would take for an expert."""
    everything = target_matrices(base)
    stacked = {key.name: key for key in everything if _STACKED.fullmatch(key.name)}
    leaves = {name.split(".")[-2] for name in stacked}
    mixed = any(key.name not in stacked and key.name.split(".")[-2] in leaves for key in everything)
    return {} if mixed else stacked
