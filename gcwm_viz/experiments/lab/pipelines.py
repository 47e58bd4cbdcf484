"""The training pipelines by name. Each gives the states S_1 … S_T of a task order; all of them see data."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from gcwm_viz.errors import InputError
from gcwm_viz.experiments.bundles import Bundle
from gcwm_viz.experiments.lab.aimmerging import AIMSettings, aimmerging
from gcwm_viz.experiments.lab.bundle import UPDATE, locate, write_update
from gcwm_viz.experiments.lab.ewc import EWCSettings, ewc
from gcwm_viz.experiments.lab.forever import ForeverSettings, forever
from gcwm_viz.experiments.lab.joint import joint
from gcwm_viz.experiments.lab.library import Library, State
from gcwm_viz.experiments.lab.recipe import Recipe


@dataclass(frozen=True)
class Pipeline:
    """`train`: S_t = θ_t − θ_pre of every step, float32, target matrices. `keeps`: what it stores of earlier
    tasks, for display. `settings`: the defaults that `train` uses."""

    train: Callable[[Library, Sequence[str]], list[State]]
    keeps: str
    settings: dict[str, Any] = field(default_factory=dict)


PIPELINES = {
    "seq-sft": Pipeline(Library.sequence, "nothing"),
    "ewc": Pipeline(ewc, "parameters and a Fisher diagonal of every task", asdict(EWCSettings())),
    "forever": Pipeline(forever, "some examples of every task", asdict(ForeverSettings())),
    "aimmerging": Pipeline(aimmerging, "some examples of every task", asdict(AIMSettings())),
    "joint": Pipeline(joint, "all data of every task"),
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
    """Inputs of a run that describes a pipeline: base, (task, expert) in order, S_t of every step, probes."""

    base: Path
    updates: list[tuple[str, Path]]
    states: list[Path]
    probes: Path


def train_on_bundle(
    name: str, folder: Path, *, bundle: Bundle | None = None, recipe: Recipe | None = None
) -> PipelineFiles:
    """Train a pipeline from a bundle's base over its tasks in their order, by default those of the shipped one.

    The states are written to `folder`/states/NAME-ORDER, float16 as in the bundle; trained states are stored in
    `folder`/trained, which a second call reads. `recipe` is that of the bundle. Needs the packages of the `lab`
    extra.
    """
    bundle = locate() if bundle is None else bundle
    library = Library(int(bundle.recipe["seed"]), recipe, folder / "trained")
    library.stored("base", partial(_read, bundle.base / "model.safetensors"))
    for task, update in bundle.updates.items():
        library.stored(f"sft-{task}", partial(_read, update / UPDATE))
    states = train_pipeline(name, library, list(bundle.updates))
    out = folder / "states" / "-".join([name, *bundle.updates])
    files = [write_update(state, out / f"step_{t}.safetensors") for t, state in enumerate(states, start=1)]
    return PipelineFiles(bundle.base, list(bundle.updates.items()), files, bundle.probes)


def _read(file: Path) -> State:
    return {name: tensor.float() for name, tensor in load_file(file).items()}
