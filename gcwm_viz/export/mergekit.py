"""A run of a baseline as a mergekit configuration.

mergekit merges every tensor of a model, embeddings and norms too; a run here merges target matrices. On these both
agree, except as the configuration's comments state.
"""

from pathlib import Path
from typing import Any

import yaml

from gcwm_viz.calibration.result import Calibrated
from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.continual.active_set import active_set
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.merging.methods.arithmetic import TASK_ARITHMETIC
from gcwm_viz.merging.recipe import MergekitModels
from gcwm_viz.merging.registry import METHODS, get_method


def mergekit_yaml(store: RunStore, step: int) -> str:
    """The state after ``step`` as text of a mergekit configuration.

    Raises :class:`InputError`, saying why, for a method that mergekit does not have, a policy whose state is no single
    merge, a step after it, updates given as folders of update tensors, and strengths that mergekit cannot express.
    """
    settings = store.settings
    describe = get_method(settings.method).mergekit
    if describe is None and not store.file.states:
        supported = ", ".join(method.name for method in METHODS.values() if method.mergekit)
        raise InputError(f"run {store.path} was merged by {settings.method}; mergekit has {supported}")
    models = _models(store, step)
    assert describe is not None
    try:
        recipe, remarks = describe(models)
        return _text(recipe, [*_differences(store), *remarks])
    except InputError as error:
        raise InputError(f"run {store.path}, merged by {settings.method}: {error}") from None


def calibrated_yaml(calibrated: Calibrated) -> str:
    """The calibrated model of a run by task arithmetic, with a weight a layer: c_0 η ω_i s_i + c_i s_i.

    Raises :class:`InputError` for a calibration with coefficients that differ within a layer, another method, and as
    :func:`mergekit_yaml` does.
    """
    store = calibrated.store
    if store.settings.method != TASK_ARITHMETIC.name:
        raise InputError(
            f"run {store.path} was merged by {store.settings.method}; mergekit can express a calibrated merge by "
            f"{TASK_ARITHMETIC.name} alone"
        )
    models = _models(store, store.steps)
    by_layer = calibrated.by_layer()
    if by_layer is None:
        raise InputError(
            f"run {store.path}: its coefficients differ within a layer, and mergekit has one weight a layer; "
            "calibrate with --per layer or --per model for it"
        )
    active = active_set(store.steps, store.settings.continual).indices
    weights = [
        [state * models.eta * factor + own[index] * store.file.updates[index].strength for state, *own in by_layer]
        for index, factor in zip(active, models.factors, strict=True)
    ]
    listed = [
        {"model": model, "parameters": {"weight": own[0] if len(set(own)) == 1 else own}}
        for model, own in zip(models.models, weights, strict=True)
    ]
    recipe = {"merge_method": "task_arithmetic", "base_model": models.base, "models": listed}
    return _text(
        recipe,
        [*_differences(store), "Weights were calibrated on development probes, one a layer where they are lists."],
    )


def _models(store: RunStore, step: int) -> MergekitModels:
    settings, where = store.settings, f"run {store.path}"
    if not 1 <= step <= store.steps:
        raise InputError(f"step must be 1 to {store.steps} for {where}, got {step}")
    if store.file.states:
        raise InputError(f"{where} describes states of a training pipeline, which are no merge for mergekit")
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
    return MergekitModels(models, weights, strengths, base, continual.eta, settings.options)


def _differences(store: RunStore) -> list[str]:
    """In what mergekit's merge differs from the run's."""
    outside, chosen = store.settings.continual.outside, store.file.choice.words
    own = "left as they are in the base" if outside == "keep" else f"merged by a {outside}"
    lines = [f"mergekit merges embeddings and norms too, which this run {own}."]
    return lines + ([f"It merges every matrix, this run those of {chosen}."] if chosen else [])


def _text(recipe: dict[str, Any], remarks: list[str]) -> str:
    return "".join(f"# {line}\n" for line in remarks) + yaml.safe_dump(
        recipe | {"dtype": "float32", "tokenizer_source": "base"}, sort_keys=False, allow_unicode=True, width=1000
    )


def write_mergekit(text: str, out: Path) -> None:
    """A configuration as a file. Raises :class:`InputError` where the file exists."""
    if out.exists() or not out.parent.is_dir():
        raise InputError(f"{out}: expected a new file in an existing folder")
    write_bytes(out, text.encode())
