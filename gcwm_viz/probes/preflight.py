"""Whether the probes of a run can be scored, and how much memory that needs, before anything is merged.

No weights are read, only shapes. Shape suffixes: b rows of a batch, l sequence length, v vocabulary.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.location import local_only
from gcwm_viz.continual.run_file import PROBE_DTYPES
from gcwm_viz.errors import InputError
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.harness import BATCH, check_definitions
from gcwm_viz.probes.loading import load_tokenizer, sketch_model
from gcwm_viz.probes.representation import RepresentationProbe
from gcwm_viz.probes.tasks import (
    ChoiceTask,
    HarnessTask,
    LabelledTask,
    PromptTask,
    Task,
    has_probe_files,
    load_labelled,
    load_tasks,
)

HARNESS_TOKENS = 512


@dataclass(frozen=True)
class Preflight:
    """``tasks``: rows {task, split, kind, examples} in the order of scoring; examples is None where only
    lm-evaluation-harness knows. ``memory_bytes``: of one worker that scores, beyond the libraries, an estimate."""

    tasks: list[dict[str, Any]]
    memory_bytes: int


def preflight(base: CheckpointIndex, probes: Path, dtype: str = PROBE_DTYPES[0]) -> Preflight:
    """Check everything about ``probes`` that can fail before a model is in memory.

    Raises :class:`InputError` for probe files that are not as described, a base that is remote or no causal language
    model, a prompt without tokens, a template that fails, an example longer than the model takes, a harness task that
    is unknown or not installed, and a precision that is none of :data:`PROBE_DTYPES`.
    """
    if dtype not in PROBE_DTYPES:
        raise InputError(f"probe dtype must be one of {', '.join(PROBE_DTYPES)}, got {dtype!r}")
    local_only(base.root, "a base that is probed, which transformers loads,")
    answered, labelled = has_probe_files(probes)
    if not answered and not labelled:
        raise InputError(f"{probes}: expected dev, test or representation folders with .jsonl files, found none")
    tasks = load_tasks(probes) if answered else []
    sets = load_labelled(probes) if labelled else []
    check_definitions([task for task in tasks if isinstance(task, HarnessTask)])
    tokenizer, model = load_tokenizer(base), sketch_model(base)
    behaviour = BehaviourProbe(tokenizer, tasks)
    behaviour.check_length(model)
    representation = RepresentationProbe(tokenizer, sets)
    return Preflight(
        [*map(_row, tasks), *map(_row, sets)], _memory(model, behaviour, representation, getattr(torch, dtype))
    )


def _row(task: Task | LabelledTask) -> dict[str, Any]:
    kinds = {PromptTask: "prompts", ChoiceTask: "choices", HarnessTask: "harness", LabelledTask: "labelled texts"}
    return {
        "task": task.name,
        "split": "" if isinstance(task, LabelledTask) else task.split,
        "kind": kinds.get(type(task), "texts"),
        "examples": task.limit if isinstance(task, HarnessTask) else len(task),
    }


def probe_words(rows: list[dict[str, Any]]) -> str:
    """Tasks with their numbers of examples, by split."""
    splits: dict[str, list[str]] = {}
    for row in rows:
        count = "all" if row["examples"] is None else row["examples"]
        splits.setdefault(row["split"] or "representation", []).append(f"{row['task']} ({count} {row['kind']})")
    return "; ".join(f"{split}: {', '.join(tasks)}" for split, tasks in splits.items())


def _memory(
    model: torch.nn.Module, behaviour: BehaviourProbe, representation: RepresentationProbe, dtype: torch.dtype
) -> int:
    """Bytes of the weights, and of the largest matrix while it is set or the largest batch, whichever is more.

    A batch's logits exist in the model's precision, in float32, and as log-probabilities. Of its hidden states about
    ten are in memory at a time in a block, and four as wide as its widest matrix. Harness tasks count as batches of
    questions of :data:`HARNESS_TOKENS`, since only the harness knows their lengths.
    """
    weights = sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize
    matrices = [parameter.shape for parameter in model.parameters() if parameter.ndim == 2]
    config: Any = getattr(model.config, "get_text_config", lambda: model.config)()
    hidden, heads = (int(getattr(config, name, 0) or 0) for name in ("hidden_size", "num_attention_heads"))
    vocabulary = int(getattr(config, "vocab_size", 0) or 0)
    widest = max((shape[0] for shape in matrices if shape[0] != vocabulary), default=hidden)

    def states(rows: int, length: int) -> int:
        return rows * length * (10 * hidden + 4 * widest) * dtype.itemsize + 4 * rows * heads * length**2

    def logits(rows: int, positions: int) -> int:
        return rows * positions * vocabulary * (dtype.itemsize + 2 * 4)

    batches = [states(*batch.whole_shape) + logits(len(batch.rows), batch.tail + 1) for batch in behaviour.batches]
    if any(isinstance(task, HarnessTask) for task in behaviour.tasks):
        batches.append(states(BATCH, HARNESS_TOKENS) + logits(BATCH, HARNESS_TOKENS))
    layers = int(getattr(config, "num_hidden_layers", 0) or 0)
    batches += [
        states(rows, length) + rows * length * hidden * layers * dtype.itemsize
        for rows, length in representation.batch_shapes()
    ]
    matrix = 3 * 4 * max((shape.numel() for shape in matrices), default=0)
    return weights + max([matrix, *batches])
