"""What transformers calls the modules whose weights a checkpoint holds: the two names can differ by a prefix."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError
from gcwm_viz.updates.matrices import MatrixKey


@dataclass(frozen=True)
class Modules:
    """Module of the loaded model by tensor name of the checkpoint, and the names of all modules it has."""

    of: dict[str, str]
    known: frozenset[str]

    def targets(self, names: Sequence[str]) -> list[str]:
        """``names`` as PEFT's target_modules: their last parts where these mean the same modules, else in full."""
        modules = {self.of[name] for name in names}
        leaves = {module.rsplit(".", 1)[-1] for module in modules}
        meant = {module for module in self.known if module.rsplit(".", 1)[-1] in leaves}
        return sorted(leaves if meant == modules else modules)


def module_names(base: CheckpointIndex, keys: Sequence[MatrixKey]) -> Modules:
    """What transformers calls the modules of ``keys``; the model is built without memory for weights.

    Raises :class:`InputError` for a base that transformers does not know, and for a weight that is no own module.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.for_model(**base.config)  # what is built in, whatever code the config points at
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # what a config can make transformers raise has no end
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{base.root}: transformers cannot build the base ({reason})") from error
    known = frozenset(name for name, _ in model.named_modules())
    found = {}
    for key in keys:
        module = key.name.removesuffix(".weight")
        full = next((name for name in (module, f"{model.base_model_prefix}.{module}") if name in known), None)
        if full is None:
            raise InputError(
                f"{base.root}: {key.name!r} is no module of its own in transformers, such as an expert that is fused "
                "with others, so no adapter can hold its update; export the whole checkpoint"
            )
        found[key.name] = full
    return Modules(found, known)
