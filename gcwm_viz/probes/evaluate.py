"""Scores of the base, every expert and the merged model of every step of a run that keeps it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual.engine import write_table
from gcwm_viz.continual.session import begin_session, writing
from gcwm_viz.continual.store import RunStore
from gcwm_viz.engines.engine import Engine, Worker
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.merged import MergedModel
from gcwm_viz.probes.representation import RepresentationProbe
from gcwm_viz.probes.stored import Checkpoint, checkpoints, read_scores, write_scores
from gcwm_viz.probes.tasks import has_probe_files, load_labelled, load_tasks
from gcwm_viz.updates.sources import UpdateSource, open_update

Progress = Callable[[int, int, str], None]


def evaluate(
    store: RunStore, engine: Engine, progress: Progress | None = None, memory_budget: int | None = None
) -> None:
    """Score every checkpoint that has no scores yet, then write the tables ``scores`` and ``representation``.

    An expert is the base with that expert's target matrices. Scores of one checkpoint are committed together.
    ``memory_budget``: bytes of all workers, each of which holds a model of its own; at least one works.
    """
    asked = list(checkpoints(store))
    todo = [checkpoint for checkpoint in asked if read_scores(store, checkpoint) is None]
    done = len(asked) - len(todo)
    store.check_cancel()
    work = partial(score_checkpoint, store.path.absolute(), begin_session(store.path))
    need = store.info.get("probe_memory") or 0
    limit = max(1, memory_budget // need) if memory_budget and need else None
    memory = (lambda _: need) if need else None
    for (kind, step, update), worker in engine.unordered(work, todo, limit=limit, memory=memory):
        done += 1
        label = f"{kind} {update}".strip()
        store.log("probe", done=done, total=len(asked), label=label, step=step, worker=worker)
        if progress:
            progress(done, len(asked), label)
        store.check_cancel()
    for name in ("scores", "representation"):
        rows: list[dict[str, Any]] = []
        for checkpoint in asked:
            rows += (read_scores(store, checkpoint) or {}).get(name, [])
        if rows:
            write_table(store.path, name, pd.DataFrame(rows))


def score_checkpoint(run: Path, session: str, worker: Worker, checkpoint: Checkpoint) -> str:
    """Score one checkpoint of the run and put the scores on disk; the worker's name."""
    bench, device = _Bench.of(run, session, worker.device), worker.device
    kind, step, _ = checkpoint
    store = bench.store
    deltas: Sequence[Update | None] = [None] * len(store.keys)
    if kind == "expert":
        deltas = [bench.sources[step - 1].delta(key) for key in store.keys]
    elif kind == "step":
        deltas = [store.state(index, step) for index in range(len(store.keys))]
    bench.model.set_updates(deltas)
    values = bench.behaviour.measure(bench.model.model, device) if bench.behaviour else []
    representation = bench.representation.score(bench.model.model, device) if bench.representation else []
    with writing(run, session):
        write_scores(store, checkpoint, values, representation)
    return worker.name


@dataclass(frozen=True)
class _Bench:
    """Model, probes and updates of a run, loaded once a session: in the next one the run may have other probes."""

    store: RunStore
    sources: list[UpdateSource]
    model: MergedModel
    behaviour: BehaviourProbe | None
    representation: RepresentationProbe | None

    @staticmethod
    @lru_cache(maxsize=1)
    def of(run: Path, session: str, device: torch.device) -> "_Bench":
        del session
        store = RunStore.open(run)
        base = CheckpointIndex.open(store.info["base"]["path"])
        sources = [open_update(entry["name"], entry["path"], base) for entry in store.info["updates"]]
        model = MergedModel(base, store, device)
        prompts, labelled = has_probe_files(Path(store.info["probes"]))
        return _Bench(
            store,
            sources,
            model,
            BehaviourProbe(model.tokenizer, load_tasks(store.info["probes"])) if prompts else None,
            RepresentationProbe(model.tokenizer, load_labelled(store.info["probes"])) if labelled else None,
        )
