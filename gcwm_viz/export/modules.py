"""What transformers calls the modules whose weights a checkpoint holds: the two names can differ by a prefix."""

from collections.abc import Sequence

import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError
from gcwm_viz.updates.matrices import MatrixKey


def module_names(base: CheckpointIndex, keys: Sequence[MatrixKey]) -> dict[str, str]:
    """Module of the loaded model by tensor name of the checkpoint; the model is built without memory for weights.

    Raises :class:`InputError` for a base that transformers does not know, and for a weight that is no own module.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(base.root, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # what a config can make transformers raise has no end
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{base.root}: transformers cannot build the base ({reason})") from error
    known = {name for name, _ in model.named_modules()}
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
    return found
