"""A run of a baseline as a mergekit configuration.

mergekit merges every tensor of a model, embeddings and norms too; a run here merges target matrices. On these both
agree, except as the configuration's comments state.
"""

from pathlib import Path

import yaml

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.continual.active_set import active_set
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.merging.recipe import MergekitModels
from gcwm_viz.merging.registry import METHODS, get_method


def mergekit_yaml(store: RunStore, step: int) -> str:
    """The state after ``step`` as text of a mergekit configuration.

    Raises :class:`InputError`, saying why, for a method that mergekit does not have, a policy whose state is no single
    merge, a step after it, updates given as folders of update tensors, and strengths that mergekit cannot express.
    """
    settings, where = store.settings, f"run {store.path}"
    if store.file.states:
        raise InputError(f"{where} describes states of a training pipeline, which are no merge for mergekit")
    describe = get_method(settings.method).mergekit
    if describe is None:
        supported = ", ".join(method.name for method in METHODS.values() if method.mergekit)
        raise InputError(f"{where} was merged by {settings.method}; mergekit has {supported}")
    continual = settings.continual
    if continual.post != "none":
        raise InputError(
            f"{where} was merged with the step {continual.post} after every merge; mergekit has no such step"
        )
    if continual.policy != "all_history" or continual.decay != 1.0:
        raise InputError(f"{where} folds earlier steps into one another; mergekit merges all updates at once")
    active = active_set(step, continual)
    base = store.file.base.where
    models, weights, strengths = [], [], []
    for index, weight in zip(active.indices, active.weights, strict=True):
        update = store.file.updates[index]
        if update.kind not in ("checkpoint", "adapter", "checkpoint+adapter"):
            raise InputError(f"{where}: update {update.name!r} is a folder of update tensors, mergekit reads models")
        models.append(f"{base}+{update.where}" if update.kind == "adapter" else update.where)
        weights.append(float(weight))
        strengths.append(update.strength)
    try:
        recipe, remark = describe(MergekitModels(models, weights, strengths, base, continual.eta, settings.options))
    except InputError as error:
        raise InputError(f"{where}, merged by {settings.method}: {error}") from None
    comments = ["mergekit merges embeddings and norms too, which this run left as they are in the base.", *remark]
    return "".join(f"# {line}\n" for line in comments) + yaml.safe_dump(
        recipe | {"dtype": "float32", "tokenizer_source": "base"}, sort_keys=False, allow_unicode=True, width=1000
    )


def write_mergekit(store: RunStore, step: int, out: Path) -> None:
    """:func:`mergekit_yaml` as a file. Raises :class:`InputError` also where the file exists."""
    if not 1 <= step <= store.steps:
        raise InputError(f"step must be 1 to {store.steps} for run {store.path}, got {step}")
    text = mergekit_yaml(store, step)
    if out.exists() or not out.parent.is_dir():
        raise InputError(f"{out}: expected a new file in an existing folder")
    write_bytes(out, text.encode())
