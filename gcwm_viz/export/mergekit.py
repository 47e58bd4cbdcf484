"""A run of a baseline as a mergekit configuration.

mergekit merges every tensor of a model, embeddings and norms too; a run here merges target matrices. On these both
agree, except as the configuration's comments state.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.continual.active_set import active_set
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError

_RANDOM = (
    "DARE's masks are drawn anew: another sample of the same distribution. mergekit rescales to each update's norm."
)


def mergekit_yaml(store: RunStore, step: int) -> str:
    """The state after ``step`` as text of a mergekit configuration.

    Raises :class:`InputError`, saying why, for a method that mergekit does not have, a policy whose state is no single
    merge, and updates given as folders of update tensors.
    """
    settings, where = store.settings, f"run {store.path}"
    if store.file.states:
        raise InputError(f"{where} describes states of a training pipeline, which are no merge for mergekit")
    if settings.method not in _RECIPES:
        raise InputError(f"{where} was merged by {settings.method}; mergekit has {', '.join(_RECIPES)}")
    continual = settings.continual
    if continual.policy != "all_history" or continual.decay != 1.0:
        raise InputError(f"{where} folds earlier steps into one another; mergekit merges all updates at once")
    active = active_set(step, continual)
    base = store.file.base.where
    models, weights = [], []
    for index, weight in zip(active.indices, active.weights, strict=True):
        update = store.file.updates[index]
        if update.kind not in ("checkpoint", "adapter", "checkpoint+adapter"):
            raise InputError(f"{where}: update {update.name!r} is a folder of update tensors, mergekit reads models")
        models.append(f"{base}+{update.where}" if update.kind == "adapter" else update.where)
        weights.append(float(weight))
    recipe, remark = _RECIPES[settings.method](models, weights, base, settings)
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


_Recipe = tuple[dict[str, Any], list[str]]


def _models(models: list[str], **parameters: Any) -> list[dict[str, Any]]:
    """One entry per model; a list among ``parameters`` holds one value per model."""
    return [
        {
            "model": model,
            "parameters": {
                key: value[index] if isinstance(value, list) else value for key, value in parameters.items()
            },
        }
        for index, model in enumerate(models)
    ]


def _arithmetic(models: list[str], weights: list[float], base: str, settings: Any) -> _Recipe:
    scaled = [weight * settings.continual.eta for weight in weights]
    return {"merge_method": "task_arithmetic", "base_model": base, "models": _models(models, weight=scaled)}, []


def _mean(models: list[str], weights: list[float], base: str, settings: Any) -> _Recipe:
    # base + η·mean(θ_i − base) is the average of whole models in which the base has the weight that η leaves.
    eta = settings.continual.eta
    rest = sum(weights) * (1 - eta) / eta
    listed = _models(models, weight=weights) + (_models([base], weight=rest) if rest else [])
    remark = [] if eta == 1 else ["The base takes part so that the mean of updates is scaled by eta."]
    return {"merge_method": "linear", "base_model": base, "models": listed}, remark


def _ties(models: list[str], weights: list[float], base: str, settings: Any) -> _Recipe:
    listed = _models(models, weight=weights, density=settings.options.ties_keep)
    parameters = {"normalize": True, "lambda": settings.continual.eta}
    return {"merge_method": "ties", "base_model": base, "models": listed, "parameters": parameters}, []


def _dare(models: list[str], weights: list[float], base: str, settings: Any) -> _Recipe:
    listed = _models(models, weight=weights, density=1 - settings.options.dare_drop)
    parameters = {"normalize": False, "lambda": settings.continual.eta}
    return {"merge_method": "dare_linear", "base_model": base, "models": listed, "parameters": parameters}, [_RANDOM]


def _dare_ties(models: list[str], weights: list[float], base: str, settings: Any) -> _Recipe:
    recipe, remark = _dare(models, weights, base, settings)
    recipe |= {"merge_method": "dare_ties", "parameters": recipe["parameters"] | {"normalize": True}}
    if 1 - settings.options.dare_drop > settings.options.ties_keep:
        remark = [*remark, "This run also trimmed by magnitude (ties_keep), which mergekit's dare_ties does not."]
    return recipe, remark


_RECIPES: dict[str, Callable[[list[str], list[float], str, Any], _Recipe]] = {
    "task-arithmetic": _arithmetic, "mean": _mean, "ties": _ties, "dare": _dare, "dare-ties": _dare_ties,
}  # fmt: skip
