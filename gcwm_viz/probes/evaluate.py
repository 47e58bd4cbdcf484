"""Scores of a run's base, experts, and merged model of every step whose tensors it keeps."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from importlib import import_module
from pathlib import Path

import pandas as pd
import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual.engine import write_table
from gcwm_viz.continual.session import begin_session, writing
from gcwm_viz.continual.store import RunStore
from gcwm_viz.engines.engine import Engine, Worker
from gcwm_viz.plugins.loading import WithPlugins
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.live import LiveModel
from gcwm_viz.probes.loading import sketch_model
from gcwm_viz.probes.representation import RepresentationProbe
from gcwm_viz.probes.stored import Checkpoint, checkpoints, gathered_scores, read_scores, write_scores
from gcwm_viz.probes.tasks import HarnessTask, has_probe_files, load_labelled, load_tasks

Progress = Callable[[int, int, str], None]


def evaluate(
    store: RunStore, engine: Engine, progress: Progress | None = None, memory_budget: int | None = None
) -> None:
    """Score every checkpoint that has no scores yet, then write the tables ``scores`` and ``representation``.

    An expert is the base with that expert's target matrices; a state of a training pipeline is whole. Scores of one
    checkpoint are committed together.
    ``memory_budget``: bytes for all workers, each of which holds a model; at least one works.
    """
    every = list(checkpoints(store))
    todo = [checkpoint for checkpoint in every if read_scores(store, checkpoint) is None]
    done = len(every) - len(todo)
    store.check_cancel()
    if todo:
        _import_libraries(store)
    work = WithPlugins(partial(score_checkpoint, store.path.absolute(), begin_session(store.path)))
    need = store.file.probes.memory or 0
    limit = max(1, memory_budget // need) if memory_budget and need else None
    memory = (lambda _: need) if need else None
    for (kind, step, update), worker in engine.unordered(work, todo, limit=limit, memory=memory):
        done += 1
        label = f"{kind} {update}".strip()
        store.log("probe", done=done, total=len(every), label=label, step=step, worker=worker)
        if progress:
            progress(done, len(every), label)
        store.check_cancel()
    for name, rows in gathered_scores(store, every).items():
        write_table(store.path, name, pd.DataFrame(rows))


def _import_libraries(store: RunStore) -> None:
    """What every worker needs, once, before they are forked; the check of the probes has imported the most of it."""
    if store.file.probes.memory is None:
        sketch_model(CheckpointIndex.open(store.file.base.path))
    if has_probe_files(store.file.probes.path)[1]:
        import_module("sklearn.linear_model")


def score_checkpoint(run: Path, session: str, worker: Worker, checkpoint: Checkpoint) -> str:
    """Score one checkpoint of the run, store the scores and return the worker's name."""
    bench, device = _Bench.of(run, session, worker.device), worker.device
    bench.model.set(checkpoint)
    model = bench.model.model
    if checkpoint[0] == "strength":
        values, representation = bench.development.measure(model, device), []
    else:
        values = bench.behaviour.measure(model, device) if bench.behaviour else []
        representation = bench.representation.score(model, device) if bench.representation else []
    with writing(run, session):
        write_scores(bench.model.store, checkpoint, values, representation)
    return worker.name


@dataclass(frozen=True)
class _Bench:
    """Model and probes of a run, loaded once a session, since the next may have other probes."""

    model: LiveModel
    behaviour: BehaviourProbe | None
    representation: RepresentationProbe | None

    @cached_property
    def development(self) -> BehaviourProbe:
        """The probe files of the development split alone."""
        tasks = load_tasks(self.model.store.file.probes.path)
        development = [task for task in tasks if task.split == "dev" and not isinstance(task, HarnessTask)]
        return BehaviourProbe(self.model.tokenizer, development)

    @staticmethod
    @lru_cache(maxsize=1)
    def of(run: Path, session: str, device: torch.device) -> "_Bench":
        del session
        store = RunStore.open(run)
        model = LiveModel(store, device)
        probes = store.file.probes.path
        prompts, labelled = has_probe_files(probes)
        return _Bench(
            model,
            BehaviourProbe(model.tokenizer, load_tasks(probes)) if prompts else None,
            RepresentationProbe(model.tokenizer, load_labelled(probes)) if labelled else None,
        )
