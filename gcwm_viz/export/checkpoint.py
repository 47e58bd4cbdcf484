"""The merged model of one step as a checkpoint that transformers, vLLM and mergekit load."""

from pathlib import Path

import torch
from torch import Tensor

from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.checkpoints.writer import export_checkpoint
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.export.card import model_card
from gcwm_viz.runs import OpenInputs, reopen_inputs


def export_step(store: RunStore, step: int, out: Path, dtype: torch.dtype | None = None) -> Path:
    """The merged model after ``step`` as a whole checkpoint, in the base's dtypes by default.

    Tokenizer, chat template and generation config are the base's. Raises :class:`InputError` for an unfinished run,
    another step than it has, changed inputs, and what :func:`export_checkpoint` refuses.
    """
    opened = open_finished(store, step)
    places = {key.name: index for index, key in enumerate(store.keys)}

    def merged(name: str) -> Tensor | None:
        if name not in places:
            return None
        index = places[name]
        update = store.keys[index].from_linear(store.state(index, step))
        return read_tensor(opened.base.tensors[name]).float() + update

    return export_checkpoint(
        opened.base, merged, out, model_card=model_card(store, step), dtype=dtype, inputs=input_folders(store, opened)
    )


def open_finished(store: RunStore, step: int) -> OpenInputs:
    """The run's inputs. Raises :class:`InputError` unless ``step`` is one of a finished run with unchanged inputs."""
    if not 1 <= step <= store.steps:
        raise InputError(f"step must be 1 to {store.steps} for run {store.path}, got {step}")
    unfinished = len(store.keys) - len(store.finished())
    if unfinished:
        raise InputError(f"run {store.path} is not finished: {unfinished} matrices are missing; use resume first")
    return reopen_inputs(store)


def input_folders(store: RunStore, opened: OpenInputs) -> list[Path]:
    """Folders that nothing may be written into."""
    return [store.path, opened.base.root, *(folder for source in opened.sources for folder in source.folders)]
