"""The merged model of one step as a checkpoint that transformers, vLLM and mergekit load."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.calibration.result import FOLDER, Calibrated, read_fitted
from gcwm_viz.checkpoints.index import split_entry
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.checkpoints.writer import export_checkpoint
from gcwm_viz.continual.outside import OutsideState
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.export.card import model_card
from gcwm_viz.linalg.lowrank import dense
from gcwm_viz.runs.inputs import OpenInputs, reopen_inputs
from gcwm_viz.updates.energy import squared_sum
from gcwm_viz.updates.outside import ROUNDING


def export_step(
    store: RunStore, step: int, out: Path, dtype: torch.dtype | None = None, tell: Callable[[str], None] | None = None
) -> Path:
    """The merged model after ``step`` as a whole checkpoint, in the base's dtypes by default.

    Where rounding to half precision changes the merged update by more than 1 %, the card says so, and ``tell`` is
    called. Tokenizer, chat template and generation config are the base's. Raises :class:`InputError` for an unfinished
    run, another step than it has, changed inputs, a model that is the base in every tensor, and what
    :func:`export_checkpoint` refuses.
    """
    opened = open_finished(store, step)
    states = {key.name: partial(_state, store, index, step) for index, key in enumerate(store.keys)}
    return export_states(store, step, opened, outside(store, step, opened) | states, out, dtype, tell)


def outside(store: RunStore, step: int, opened: OpenInputs) -> dict[str, Callable[[], Tensor | None]]:
    """Δ of the tensors outside the target matrices that a run merges, after ``step``, each read when it is called."""
    state = OutsideState(opened.sources, store.keys, store.settings.continual)
    return {name: partial(state.change, name, step) for name in state.names}


CALIBRATED = (
    "The merged state and the updates are multiplied by coefficients that were fitted on development probes, matrix by "
    "matrix."
)


def export_calibrated(
    calibrated: Calibrated, out: Path, dtype: torch.dtype | None = None, tell: Callable[[str], None] | None = None
) -> Path:
    """The calibrated model of a run as a whole checkpoint, otherwise as :func:`export_step`; ``calibration.json`` in it
    holds what the fit saw and every coefficient."""
    store = calibrated.store
    opened = open_finished(store, store.steps)
    states = {key.name: partial(_calibrated, calibrated, index) for index, key in enumerate(store.keys)}
    about = read_fitted(store.path / FOLDER) | {"sources": ["state", *store.updates], "factors": calibrated.factors}
    return export_states(store, store.steps, opened, states, out, dtype, tell, CALIBRATED, {"calibration.json": about})


def export_states(
    store: RunStore,
    step: int,
    opened: OpenInputs,
    states: Mapping[str, Callable[[], Tensor | None]],
    out: Path,
    dtype: torch.dtype | None = None,
    tell: Callable[[str], None] | None = None,
    remark: str = "",
    beside: Mapping[str, Any] | None = None,
) -> Path:
    """The base with base + Δ in the tensors that ``states`` names, each read when it is written, in stored layout; a Δ
    of None leaves the base's. ``remark``: a sentence for the card of a model that is not the state of the step itself.
    ``beside``: JSON files. Otherwise as :func:`export_step`."""
    error = energy = 0.0
    is_changed = False
    matrices = defaultdict[str, list[str]](list)  # of every stored tensor: itself, or those of a stack
    for name in states:
        matrices[split_entry(name)[0] if name not in opened.base.tensors else name].append(name)

    def merged(tensor: str) -> Tensor | None:
        stored: Tensor | None = None
        for name in matrices[tensor]:
            update = states[name]()
            if update is None:
                continue
            if stored is None:
                own = read_tensor(opened.base.tensors[tensor])
                stored = own.to(dtype or own.dtype)
            value = read_tensor(opened.base.stored(name)).float() + update
            part = stored if name == tensor else stored[split_entry(name)[1]]
            before = part.clone()
            part.copy_(value)
            nonlocal error, energy, is_changed
            error += squared_sum(part.float() - value)
            energy += squared_sum(update)
            is_changed = is_changed or not torch.equal(part, before)
        return stored

    def card() -> str:
        if not is_changed:
            why = "rounding takes all of the update; expected --dtype float32" if energy > 0 else "its update is zero"
            same = f"run {store.path}: the model of step {step} is the base in every tensor, since {why}"
            if not remark:
                raise InputError(f"{same}; nothing was written")
            if tell:
                tell(same)
        share = math.sqrt(error / energy) if energy > 0 else 0.0
        rounding = f"Rounding of the weights is {share:.1%} of the merged update." if share > ROUNDING else ""
        if rounding and tell:
            tell(rounding)
        return model_card(store, step, " ".join(filter(None, (remark, rounding))), recipe=not remark)

    return export_checkpoint(
        opened.base, merged, out, model_card=card, dtype=dtype, inputs=input_folders(store, opened), beside=beside
    )


def _state(store: RunStore, index: int, step: int) -> Tensor:
    return store.keys[index].from_linear(store.state(index, step))


def _calibrated(calibrated: Calibrated, index: int) -> Tensor | None:
    update = calibrated.update(index)
    return None if update is None else calibrated.store.keys[index].from_linear(dense(update).float())


def open_finished(store: RunStore, step: int) -> OpenInputs:
    """The run's inputs. Raises :class:`InputError` unless ``step`` is one of a finished run with unchanged inputs."""
    if not 1 <= step <= store.steps:
        raise InputError(f"step must be 1 to {store.steps} for run {store.path}, got {step}")
    store.check_finished()
    return reopen_inputs(store)


def input_folders(store: RunStore, opened: OpenInputs) -> list[Path]:
    """Folders that nothing may be written into."""
    return [store.path, opened.base.root, *(folder for source in opened.sources for folder in source.folders)]
