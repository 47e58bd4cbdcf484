"""Scores of the base, every expert and the merged model of every step of a run."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.continual.engine import write_table
from gcwm_viz.continual.session import begin_session, writing
from gcwm_viz.continual.store import RunStore
from gcwm_viz.engines.engine import Engine, Worker
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import Update, dense
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.representation import RepresentationProbe
from gcwm_viz.probes.tasks import has_probe_files, load_labelled, load_tasks
from gcwm_viz.updates.sources import UpdateSource, open_update

Progress = Callable[[int, int, str], None]
Checkpoint = tuple[str, int, str]
"""(``base``, 0, ""), (``expert``, index, update) or (``step``, step, arriving update)."""


class MergedModel:
    """The base model in memory, float32, whose target matrices are set to base + Δ again and again."""

    def __init__(self, base: CheckpointIndex, store: RunStore, device: torch.device) -> None:
        self.base, self.keys, self.device = base, store.keys, device
        _check_depth(base)
        transformers_logging.disable_progress_bar()  # one bar, the job's, is enough
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(base.root, local_files_only=True, trust_remote_code=False)
            model: Any = AutoModelForCausalLM.from_pretrained(
                base.root, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
        except Exception as error:  # what a config can make transformers raise has no end
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InputError(f"{base.root}: transformers cannot load the base ({reason})") from error
        self.model: Any = model.to(device).eval()
        self.parameters = {key.name: self._parameter(key.name) for key in store.keys}

    def _parameter(self, name: str) -> torch.nn.Parameter:
        try:
            return self.model.get_parameter(name)
        except AttributeError:
            raise InputError(f"{self.base.root}: transformers has no parameter named {name!r}") from None

    def set_updates(self, deltas: Sequence[Update | None]) -> None:
        """Target matrices ← base + Δ in float32; None leaves the base value."""
        for key, delta in zip(self.keys, deltas, strict=True):
            value = read_tensor(self.base.tensors[key.name]).float()
            if delta is not None:
                value = value + key.from_linear(dense(delta).float().cpu())
            with torch.no_grad():
                self.parameters[key.name].copy_(value.to(self.device))


def evaluate(store: RunStore, engine: Engine, progress: Progress | None = None) -> None:
    """Score every checkpoint that has no scores yet, then write the tables ``scores`` and ``representation``.

    An expert is the base with that expert's target matrices. Scores of one checkpoint are committed together.
    """
    checkpoints = list(_checkpoints(store))
    todo = [checkpoint for checkpoint in checkpoints if _scored(store, checkpoint) is None]
    done = len(checkpoints) - len(todo)
    store.check_cancel()
    work = partial(score_checkpoint, store.path, begin_session(store.path))
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


def _check_depth(base: CheckpointIndex) -> None:
    """A config can claim any number of layers, and transformers would build them all."""
    for name in ("num_hidden_layers", "n_layer"):
        layers = base.config.get(name)
        if isinstance(layers, int) and layers > len(base.tensors):
            raise InputError(f"{base.config_file}: {name} is {layers}, the base has {len(base.tensors)} tensors in all")


def _file(store: RunStore, checkpoint: Checkpoint) -> Path:
    return store.path / "probes" / f"{checkpoint[0]}-{checkpoint[1]:03d}.json"


def _checkpoints(store: RunStore) -> Iterator[Checkpoint]:
    yield "base", 0, ""
    for index, update in enumerate(store.updates, start=1):
        yield "expert", index, update
    for index, update in enumerate(store.updates, start=1):
        yield "step", index, update
