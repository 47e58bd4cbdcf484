"""The training pipelines by name. Each gives the states S_1 … S_T of a task order; all of them see data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file

from gcwm_viz.errors import InputError
from gcwm_viz.lab.aimmerging import aimmerging
from gcwm_viz.lab.bundle import UPDATE_METADATA
from gcwm_viz.lab.ewc import ewc
from gcwm_viz.lab.forever import forever
from gcwm_viz.lab.joint import joint
from gcwm_viz.lab.library import Library, State


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """`train`: S_t = θ_t − θ_pre of every step, float32, target matrices. `keeps`: what it keeps of earlier tasks."""

    name: str
    source: str
    summary: str
    keeps: str
    train: Callable[[Library, Sequence[str]], list[State]]


def _seq_sft(library: Library, order: Sequence[str]) -> list[State]:
    return library.sequence(order)


PIPELINES: dict[str, Pipeline] = {
    pipeline.name: pipeline
    for pipeline in (
        Pipeline(
            name="seq-sft",
            source="sequential fine-tuning",
            summary="one task after another, nothing else",
            keeps="nothing",
            train=_seq_sft,
        ),
        Pipeline(
            name="ewc",
            source="arXiv 1612.00796",
            summary="a Fisher-weighted penalty holds what earlier tasks need",
            keeps="parameters and a Fisher diagonal of every task",
            train=ewc,
        ),
        Pipeline(
            name="forever",
            source="arXiv 2601.03938",
            summary="replay on a forgetting curve in model time",
            keeps="some examples of every task",
            train=forever,
        ),
        Pipeline(
            name="aimmerging",
            source="arXiv 2509.17348",
            summary="merges during training, timed by learning and forgetting signals, with rehearsal",
            keeps="some examples of every task",
            train=aimmerging,
        ),
        Pipeline(
            name="joint",
            source="multi-task learning",
            summary="one model on all tasks seen so far: the upper bound",
            keeps="all data of every task",
            train=joint,
        ),
    )
}


def train_pipeline(name: str, library: Library, order: Sequence[str]) -> list[State]:
    """S_1 … S_T. Raises :class:`InputError` for an unknown pipeline or task, or a task named twice."""
    if name not in PIPELINES:
        raise InputError(f"pipeline must be one of {', '.join(PIPELINES)}, got {name!r}")
    unknown = [task for task in order if task not in library.tasks]
    if unknown or len(set(order)) != len(order) or not order:
        raise InputError(f"order: expected tasks among {', '.join(library.tasks)}, each once, got {', '.join(order)}")
    return PIPELINES[name].train(library, order)


def write_states(states: Sequence[State], folder: Path) -> list[Path]:
    """One file of update tensors for every step, float16 as in the bundle: what a run takes as given states."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for step, state in enumerate(states, start=1):
        path = folder / f"step_{step}.safetensors"
        save_file({name: tensor.half().contiguous() for name, tensor in state.items()}, path, metadata=UPDATE_METADATA)
        paths.append(path)
    return paths
