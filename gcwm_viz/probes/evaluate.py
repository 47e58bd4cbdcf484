"""Scores of the base, every expert and the merged model of every step of a run."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.continual.engine import write_table
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import Update, dense
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.representation import RepresentationProbe
from gcwm_viz.probes.tasks import LabelledTask, PromptTask
from gcwm_viz.updates.sources import UpdateSource

Progress = Callable[[int, int, str], None]


class MergedModel:
    """The base model in memory, float32, whose target matrices are set to base + Δ again and again."""

    def __init__(self, base: CheckpointIndex, store: RunStore, device: torch.device) -> None:
        self.base, self.keys, self.device = base, store.keys, device
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(base.root, local_files_only=True, trust_remote_code=False)
            model: Any = AutoModelForCausalLM.from_pretrained(
                base.root, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{base.root}: transformers cannot load the base: {str(error).splitlines()[0]}") from error
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


def evaluate(
    store: RunStore,
    base: CheckpointIndex,
    sources: Sequence[UpdateSource],
    tasks: Sequence[PromptTask],
    labelled: Sequence[LabelledTask],
    device: torch.device,
    progress: Progress | None = None,
) -> None:
    """Score every checkpoint that has no scores yet, then write the tables ``scores`` and ``representation``.

    An expert is the base with that expert's target matrices. Scores of one checkpoint are committed together.
    """
    model: MergedModel | None = None
    behaviour = representation = None
    checkpoints = list(_checkpoints(store))
    files = [store.path / "probes" / f"{kind}-{step:03d}.json" for kind, step, _ in checkpoints]
    if not all(file.is_file() for file in files):
        model = MergedModel(base, store, device)
        behaviour = BehaviourProbe(model.tokenizer, tasks) if tasks else None
        representation = RepresentationProbe(model.tokenizer, labelled) if labelled else None
    states: list[Iterator[Tensor]] = [store.states(index) for index in range(len(store.keys))]
    for done, (file, (kind, step, update)) in enumerate(zip(files, checkpoints, strict=True), start=1):
        current = [next(matrix) for matrix in states] if kind == "step" and model is not None else []
        if file.is_file() or model is None:
            continue
        store.check_cancel()
        deltas: Sequence[Update | None] = current
        if kind == "base":
            deltas = [None] * len(store.keys)
        elif kind == "expert":
            deltas = [sources[step - 1].delta(key) for key in store.keys]
        model.set_updates(deltas)
        place = {"model": kind, "step": step, "update": update}
        rows = {
            "scores": [place | row for row in behaviour.score(model.model, device)] if behaviour else [],
            "representation": [place | row for row in representation.score(model.model, device)]
            if representation
            else [],
        }
        write_bytes(file, json.dumps(rows).encode())
        store.log("probe", done=done, total=len(files), label=f"{kind} {step} {update}".strip())
        if progress:
            progress(done, len(files), f"{kind} {update}".strip())
    for name in ("scores", "representation"):
        rows_all: list[dict[str, Any]] = [row for file in files for row in json.loads(file.read_bytes())[name]]
        if rows_all:
            write_table(store.path, name, pd.DataFrame(rows_all))


def _checkpoints(store: RunStore) -> Iterator[tuple[str, int, str]]:
    yield "base", 0, ""
    for index, update in enumerate(store.updates, start=1):
        yield "expert", index, update
    for index, update in enumerate(store.updates, start=1):
        yield "step", index, update


def has_probe_files(folder: Path) -> tuple[bool, bool]:
    """Whether a probe folder holds prompt tasks and labelled sets."""
    prompts = any(any((folder / split).glob("*.jsonl")) for split in ("dev", "test"))
    return prompts, any((folder / "representation").glob("*.jsonl"))
