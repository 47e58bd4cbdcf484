"""The update of a model in memory that is being trained."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.reader import check_finite, read_tensor
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.probes.merged import Weight, weights_in
from gcwm_viz.updates.matrices import MatrixKey
from gcwm_viz.updates.source import UpdateSource
from gcwm_viz.updates.sources import open_update

NAME = "in training"
"""Of the update, in sentences."""
_DEFAULT = "default"


class TrainedUpdate(Protocol):
    """What is asked of an update in training; a saved one is an :class:`~gcwm_viz.updates.source.UpdateSource`."""

    def touched(self, keys: Iterable[MatrixKey]) -> list[MatrixKey]: ...

    def check(self, key: MatrixKey) -> None: ...

    def delta(self, key: MatrixKey) -> Update | None: ...


class ModelUpdate:
    """θ − θ_pre of a model that is trained whole, from its parameters as they are now."""

    def __init__(self, model: Any, base: CheckpointIndex) -> None:
        self._base = base
        self._weight = weights_in(model, base)

    def touched(self, keys: Iterable[MatrixKey]) -> list[MatrixKey]:
        return list(keys)

    def check(self, key: MatrixKey) -> None:
        """Raises :class:`InputError` where the model does not have the base's matrix, in its shape and on one
        device."""
        self._found(key)

    def delta(self, key: MatrixKey) -> Update | None:
        """(d_out, d_in) float32 on the CPU; None where it is exactly zero. Raises :class:`InputError` as :meth:`check`
        does, and for a NaN or infinite value."""
        weight = self._found(key)
        theta = weight.part(weight.parameter.detach()).cpu().float()
        check_finite(theta, f"the model in training: tensor {key.name!r}")
        delta = key.to_linear(theta - read_tensor(self._base.stored(key.name)).float())
        return delta if bool(delta.any()) else None

    def _found(self, key: MatrixKey) -> Weight:
        expected = self._base.stored(key.name).shape
        weight = self._weight(key.name)
        if weight is not None and is_sharded(weight.parameter):
            raise InputError(
                f"the model in training: tensor {key.name!r} is sharded over processes, expected every=None, which "
                "measures what is saved"
            )
        found = None if weight is None else tuple(weight.part(weight.parameter).shape)
        if weight is None or found != expected:
            raise InputError(
                f"the model in training has another base than {self._base.root}: expected its tensor {key.name!r} of "
                f"shape {expected}, found {'none' if found is None else found}"
            )
        return weight


def is_sharded(parameter: torch.Tensor) -> bool:
    """Whether a process holds a part of it alone: a DTensor (FSDP2, tensor parallelism) or one of DeepSpeed's."""
    return hasattr(parameter, "full_tensor") or hasattr(parameter, "ds_id")


@contextmanager
def update_in_training(model: Any, base: CheckpointIndex) -> Iterator[TrainedUpdate]:
    """The update of ``model``, an adapter's or that of all its parameters, as it is now.

    An adapter is small: it is written to a temporary folder and read as a saved one, whatever its kind; of LoRA the
    factors are used. Raises :class:`InputError` for an adapter that is no update of weights.
    """
    if not hasattr(model, "peft_config"):
        yield ModelUpdate(model, base)
        return
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        raise InputError(
            f"the model in training has adapters and is a {type(model).__name__}, expected peft's PeftModel"
        )
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder, save_embedding_layers=False)
        yield saved_update(model, Path(folder), base)


def saved_update(model: Any, folder: Path, base: CheckpointIndex) -> UpdateSource:
    """The update that ``model`` was saved with in ``folder``; peft gives an adapter that it does not call default a
    folder within."""
    name = model.active_adapter if hasattr(model, "peft_config") else _DEFAULT
    return open_update(NAME, folder if name == _DEFAULT else folder / name, base)
