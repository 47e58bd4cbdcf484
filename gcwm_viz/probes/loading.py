"""The base as transformers loads it: tokenizer, model, and a model without weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from gcwm_viz.checkpoints.architecture import check_depth, model_class
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError

# transformers is imported where it is used: reading headers or tables does not need it.


def load_tokenizer(base: CheckpointIndex) -> Any:
    """Raises :class:`InputError` for a base without a tokenizer that transformers can load."""
    from transformers import AutoTokenizer

    check_depth(base)  # the tokenizer reads the config too
    with _faults_of(base, "tokenizer"):
        return AutoTokenizer.from_pretrained(base.root, local_files_only=True, trust_remote_code=False)


def load_model(base: CheckpointIndex, dtype: torch.dtype) -> Any:
    """The base as a causal language model on the CPU, in evaluation mode; one that reads images too where transformers
    has no other of its kind.

    Raises :class:`InputError` where transformers cannot load it, and where it would fill weights that the base lacks
    with random numbers: scores of such a model mean nothing and differ from load to load.
    """
    check_depth(base)
    with _faults_of(base, "base"):
        loaded: Any = model_class(_config(base)).from_pretrained(
            base.root,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=dtype,
            output_loading_info=True,
        )
    model, loading = loaded
    missing = sorted(loading["missing_keys"])
    if missing:
        raise InputError(_lacking(base, missing))
    return model.eval()


def sketch_model(base: CheckpointIndex) -> Any:
    """The model's modules and shapes without its weights, to estimate what scoring needs before it is loaded.

    Raises :class:`InputError` where transformers has no causal language model of the base's kind, and where the base
    lacks the output embeddings.
    """
    check_depth(base)
    with _faults_of(base, "base"):
        config = _config(base)
        with torch.device("meta"):
            model = model_class(config).from_config(config, trust_remote_code=False)
    head = model.get_output_embeddings()
    if head is not None:
        names = [name for name, parameter in model.named_parameters(remove_duplicate=False) if parameter is head.weight]
        # The last two components, so that a wrapper's prefix, or the lack of one, does not matter.
        tails = {".".join(name.split(".")[-2:]) for name in names}
        if not any(".".join(name.split(".")[-2:]) in tails for name in base.tensors):
            raise InputError(_lacking(base, names))
    return model.eval()


def _config(base: CheckpointIndex) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(base.root, local_files_only=True, trust_remote_code=False)


def _lacking(base: CheckpointIndex, names: list[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return (
        f"{base.root}: the base cannot be scored, expected the weights of a causal language model, found none for "
        f"{names[0]!r}{more}, which transformers would fill with random numbers; run without probes to merge it all "
        "the same"
    )


@contextmanager
def _faults_of(base: CheckpointIndex, what: str) -> Iterator[None]:
    """transformers' errors as :class:`InputError`; its progress bars and reports are silenced."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except Exception as error:  # a config can make transformers raise anything
        reason = next(iter(f"{type(error).__name__}: {error}".splitlines()))
        raise InputError(f"{base.root}: transformers cannot load the {what} ({reason[:300]})") from error
    finally:
        logging.set_verbosity(level)
