"""Scores in a run folder: one file a checkpoint, with scores and the values of every example."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.continual.store import RunStore
from gcwm_viz.probes.values import TaskValues, from_json, to_json

Checkpoint = tuple[str, int, str]
"""(``base``, 0, ""), (``expert``, index, update), (``step``, step, arriving update), (``strength``, index, factor)."""

STRENGTHS = (0.3, 0.5, 0.7, 1.4)
"""Factors of the final state, beside 1, that are scored on the development probes where η was given: they show a merge
that is too strong or too weak, without another merge."""
_COLUMNS = {
    "scores": {"model", "step", "update", "task", "split", "metric", "value", "se", "n"},
    "representation": {"model", "step", "update", "dataset", "layer", "accuracy"},
}


def state_of(store: RunStore, step: int) -> Checkpoint:
    """The state after ``step``; 0 is the base."""
    return ("step", step, store.updates[step - 1]) if step else ("base", 0, "")


def models(store: RunStore) -> Iterator[Checkpoint]:
    """The base, every expert, and the state of every step whose tensors the run keeps."""
    yield "base", 0, ""
    for index, update in enumerate(store.updates, start=1):
        yield "expert", index, update
    for index, update in enumerate(store.updates, start=1):
        if store.settings.continual.keep == "all" or index == store.steps:
            yield "step", index, update


def checkpoints(store: RunStore) -> Iterator[Checkpoint]:
    """All :func:`models` and, for a merge with development probes, the final state at other strengths."""
    yield from models(store)
    development = store.file.probes.path / "dev"
    if not store.file.states and next(development.glob("*.jsonl"), None) is not None:
        yield from strengths(store)


def strengths(store: RunStore) -> list[Checkpoint]:
    """The final state at other strengths: at those of :data:`STRENGTHS`, or, where the run chose η, at each that it
    tried."""
    tried, eta = store.file.eta_tried, store.settings.continual.eta
    factors = STRENGTHS if tried is None else [float(f"{other / eta:.6g}") for other in tried if other != eta]
    return [("strength", index, str(factor)) for index, factor in enumerate(factors, start=1)]


def write_scores(
    store: RunStore, checkpoint: Checkpoint, values: Sequence[TaskValues], representation: Sequence[dict[str, Any]]
) -> None:
    """Store everything about one checkpoint in one file, atomically."""
    kind, step, update = checkpoint
    checkpoint_columns = {"model": kind, "step": step, "update": update}
    content = {
        "scores": [checkpoint_columns | row for task in values for row in task.rows()],
        "representation": [checkpoint_columns | row for row in representation],
        "examples": to_json(values),
    }
    write_bytes(_file(store, checkpoint), json.dumps(content).encode())


def read_scores(store: RunStore, checkpoint: Checkpoint) -> dict[str, list[Any]] | None:
    """Rows of the tables ``scores`` and ``representation``, and the values of every example under ``examples``; None
    where the checkpoint has no scores or the file is damaged."""
    try:
        content = json.loads(_file(store, checkpoint).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    complete = isinstance(content, dict) and all(
        isinstance(content.get(name), list)
        and all(isinstance(row, dict) and columns <= row.keys() for row in content[name])
        for name, columns in _COLUMNS.items()
    )
    return content if complete else None


def gathered_scores(store: RunStore, scored: Iterable[Checkpoint]) -> dict[str, list[dict[str, Any]]]:
    """Rows of the tables ``scores``, ``representation`` and ``strength`` of those checkpoints that have scores; without
    the tables that have no row."""
    rows: dict[str, list[dict[str, Any]]] = {"scores": [], "representation": [], "strength": []}
    for checkpoint in scored:
        stored = read_scores(store, checkpoint) or {}
        if checkpoint[0] == "strength":
            rows["strength"] += stored.get("scores", [])
        else:
            rows["scores"] += stored.get("scores", [])
            rows["representation"] += stored.get("representation", [])
    if rows["strength"]:
        rows["strength"] = _strength_rows(store, rows["scores"], rows["strength"])
    return {name: entries for name, entries in rows.items() if entries}


def _strength_rows(store: RunStore, scores: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Development scores of the final state by strength: ``others``, and the final step's own at 1."""
    tasks = {row["task"] for row in others}
    final = [row for row in scores if row["model"] == "step" and row["step"] == store.steps and row["split"] == "dev"]
    listed = [(1.0, row) for row in final if row["task"] in tasks] + [(float(row["update"]), row) for row in others]
    columns = ("task", "metric", "value", "se", "n")
    return [
        {"strength": factor} | {column: row[column] for column in columns}
        for factor, row in sorted(listed, key=lambda entry: entry[0])
    ]


def read_examples(store: RunStore, step: int) -> list[TaskValues]:
    """Values of every example of every task for the state of ``step`` (0 is the base), in task order.

    Empty where that was not scored, and for a run of an earlier version, which stored means alone.
    """
    return _examples(store, state_of(store, step))


def read_expert_examples(store: RunStore, update: str) -> list[TaskValues]:
    """The same for the expert of an update."""
    return _examples(store, ("expert", store.updates.index(update) + 1, update))


def read_strength_examples(store: RunStore) -> dict[float, list[TaskValues]]:
    """Values of every example of the development tasks by the factor of the final state, without 1."""
    examples = {float(checkpoint[2]): _examples(store, checkpoint) for checkpoint in strengths(store)}
    return {factor: values for factor, values in examples.items() if values}


def _examples(store: RunStore, checkpoint: Checkpoint) -> list[TaskValues]:
    try:
        return from_json((read_scores(store, checkpoint) or {}).get("examples", []))
    except (TypeError, ValueError, AttributeError):
        return []


def has_scores(store: RunStore) -> bool:
    return any((store.path / "probes").glob("*.json"))


def discard_scores(store: RunStore) -> None:
    """Delete all scores, the tables first, so that a crash leaves nothing that looks complete."""
    for name in ("scores", "representation", "strength"):
        (store.path / "tables" / f"{name}.parquet").unlink(missing_ok=True)
    for file in (store.path / "probes").glob("*.json"):
        file.unlink()


def _file(store: RunStore, checkpoint: Checkpoint) -> Path:
    return store.path / "probes" / f"{checkpoint[0]}-{checkpoint[1]:03d}.json"
