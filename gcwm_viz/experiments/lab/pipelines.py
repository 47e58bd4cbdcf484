"""The training pipelines by name. Each gives the states S_1 … S_T of a task order; all of them see data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from gcwm_viz.errors import InputError
from gcwm_viz.experiments.lab.aimmerging import AIMSettings, aimmerging
from gcwm_viz.experiments.lab.bundle import UPDATE_METADATA, BundlePaths, locate
from gcwm_viz.experiments.lab.ewc import EWCSettings, ewc
from gcwm_viz.experiments.lab.forever import ForeverSettings, forever
from gcwm_viz.experiments.lab.joint import joint
from gcwm_viz.experiments.lab.library import Library, Report, State
from gcwm_viz.experiments.lab.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """`train`: S_t = θ_t − θ_pre of every step, float32, target matrices. `keeps`: what it keeps of earlier tasks.
    `settings`: its defaults, with which `train` works."""

    name: str
    source: str
    summary: str
    keeps: str
    train: Callable[[Library, Sequence[str]], list[State]]
    settings: dict[str, Any] = field(default_factory=dict)


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
            settings=asdict(EWCSettings()),
        ),
        Pipeline(
            name="forever",
            source="arXiv 2601.03938",
            summary="replay on a forgetting curve in model time",
            keeps="some examples of every task",
            train=forever,
            settings=asdict(ForeverSettings()),
        ),
        Pipeline(
            name="aimmerging",
            source="arXiv 2509.17348",
            summary="merges during training, timed by learning and forgetting signals, with rehearsal",
            keeps="some examples of every task",
            train=aimmerging,
            settings=asdict(AIMSettings()),
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


@dataclass(frozen=True)
class PipelineFiles:
    """What a run that describes a pipeline reads: base, (task, expert) in order, S_t of every step, probes."""

    base: Path
    updates: list[tuple[str, Path]]
    states: list[Path]
    probes: Path


def train_on_bundle(
    name: str,
    folder: Path,
    order: Sequence[str] | None = None,
    *,
    bundle: BundlePaths | None = None,
    recipe: Recipe | None = None,
    report: Report | None = None,
) -> PipelineFiles:
    """Train a pipeline from a bundle's base over its tasks, by default the shipped one in its own order.

    The states go to `folder`/states/NAME-ORDER, what is trained on the way to `folder`/trained, from where a second
    call takes it. `recipe` is that of the bundle. Needs the packages of the `lab` extra.
    """
    paths = locate() if bundle is None else bundle
    library = Library(int(paths.recipe["seed"]), recipe, folder / "trained", report)
    tasks = list(paths.updates) if order is None else list(order)
    library.keep("base", partial(_read, paths.base / "model.safetensors"))
    for task, update in paths.updates.items():
        library.keep(f"sft-{task}", partial(_read, update / "update.safetensors"))
    states = train_pipeline(name, library, tasks)
    written = write_states(states, folder / "states" / "-".join([name, *tasks]))
    return PipelineFiles(paths.base, [(task, paths.updates[task]) for task in tasks], written, paths.probes)


def write_states(states: Sequence[State], folder: Path) -> list[Path]:
    """One file of update tensors for every step, float16 as in the bundle: what a run takes as given states."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for step, state in enumerate(states, start=1):
        path = folder / f"step_{step}.safetensors"
        save_file({name: tensor.half().contiguous() for name, tensor in state.items()}, path, metadata=UPDATE_METADATA)
        paths.append(path)
    return paths


def _read(file: Path) -> State:
    return {name: tensor.float() for name, tensor in load_file(file).items()}
