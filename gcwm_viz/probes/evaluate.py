"""Scores of the base, every expert and the merged model of every step of a run."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual.engine import write_table
from gcwm_viz.continual.session import begin_session, writing
from gcwm_viz.continual.store import RunStore
from gcwm_viz.engines.engine import Engine, Worker
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.merged import MergedModel
from gcwm_viz.probes.representation import RepresentationProbe
from gcwm_viz.probes.tasks import has_probe_files, load_labelled, load_tasks
from gcwm_viz.updates.sources import UpdateSource, open_update

Progress = Callable[[int, int, str], None]
Checkpoint = tuple[str, int, str]
"""(``base``, 0, ""), (``expert``, index, update) or (``step``, step, arriving update)."""


def evaluate(store: RunStore, engine: Engine, progress: Progress | None = None) -> None:
    """Score every checkpoint that has no scores yet, then write the tables ``scores`` and ``representation``.

    An expert is the base with that expert's target matrices. Scores of one checkpoint are committed together.
    """
    checkpoints = list(_checkpoints(store))
    todo = [checkpoint for checkpoint in checkpoints if _scored(store, checkpoint) is None]
    done = len(checkpoints) - len(todo)
    store.check_cancel()
    work = partial(score_checkpoint, store.path.absolute(), begin_session(store.path))
    for (kind, step, update), worker in engine.unordered(work, todo):
        done += 1
        label = f"{kind} {update}".strip()
        store.log("probe", done=done, total=len(checkpoints), label=label, step=step, worker=worker)
        if progress:
            progress(done, len(checkpoints), label)
        store.check_cancel()
    for name in ("scores", "representation"):
        rows: list[dict[str, Any]] = []
        for checkpoint in checkpoints:
            rows += (_scored(store, checkpoint) or {}).get(name, [])
        if rows:
            write_table(store.path, name, pd.DataFrame(rows))


def score_checkpoint(run: Path, session: str, worker: Worker, checkpoint: Checkpoint) -> str:
    """Score one checkpoint of the run and put the scores on disk; the worker's name."""
    bench, device = _Bench.of(run, worker.device), worker.device
    kind, step, update = checkpoint
    store = bench.store
    deltas: Sequence[Update | None] = [None] * len(store.keys)
    if kind == "expert":
        deltas = [bench.sources[step - 1].delta(key) for key in store.keys]
    elif kind == "step":
        deltas = [store.state(index, step) for index in range(len(store.keys))]
    bench.model.set_updates(deltas)
    place = {"model": kind, "step": step, "update": update}
    rows = {
        "scores": [place | row for row in bench.behaviour.score(bench.model.model, device)] if bench.behaviour else [],
        "representation": [place | row for row in bench.representation.score(bench.model.model, device)]
        if bench.representation
        else [],
    }
    with writing(run, session):
        write_bytes(_file(store, checkpoint), json.dumps(rows).encode())
    return worker.name


@dataclass(frozen=True)
class _Bench:
    """Model, probes and updates of a run, loaded once a process."""

    store: RunStore
    sources: list[UpdateSource]
    model: MergedModel
    behaviour: BehaviourProbe | None
    representation: RepresentationProbe | None

    @staticmethod
    @lru_cache(maxsize=1)
    def of(run: Path, device: torch.device) -> "_Bench":
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


def _scored(store: RunStore, checkpoint: Checkpoint) -> dict[str, list[dict[str, Any]]] | None:
    """Stored scores of one checkpoint; None where there are none, or the file is damaged and is to be made again."""
    try:
        rows = json.loads(_file(store, checkpoint).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(rows, dict) and all(isinstance(rows.get(name), list) for name in ("scores", "representation"))
    return rows if whole else None


def _file(store: RunStore, checkpoint: Checkpoint) -> Path:
    return store.path / "probes" / f"{checkpoint[0]}-{checkpoint[1]:03d}.json"


def _checkpoints(store: RunStore) -> Iterator[Checkpoint]:
    yield "base", 0, ""
    for index, update in enumerate(store.updates, start=1):
        yield "expert", index, update
    for index, update in enumerate(store.updates, start=1):
        yield "step", index, update
