"""Tasks of lm-evaluation-harness on a model in memory, through the harness's own Python API (extra ``eval``).

Its task definitions are programs: they come with the package, or from the folder that the environment variable
``GCWM_VIZ_LM_EVAL_PATH`` names, never from a probe folder. Each names the source of its data, mostly the hub.
"""

import io
import logging
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stderr
from functools import lru_cache
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.errors import InputError
from gcwm_viz.probes.description import HarnessTask
from gcwm_viz.probes.values import ratio_values

DEFINITIONS = "GCWM_VIZ_LM_EVAL_PATH"
SHARES = {"exact_match": "em", "acc": "acc", "acc_norm": "acc_norm"}
"""The harness's metrics that are means of 0 or 1 over examples, and their names here."""
BATCH = 16


def harness_values(task: HarnessTask, model: torch.nn.Module, tokenizer: Any) -> dict[str, Tensor]:
    """Values of every example by metric, (n,) float64: em, acc and acc_norm of the harness's exact_match, acc and
    acc_norm; bpb, bits per byte of texts, of its bits_per_byte.

    Of several filters the first counts. Raises InputError without the package, for an unknown task or a group of
    tasks, for a task that cannot be run, and for one that measures none of these.
    """
    check_installed([task])
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    with _quiet():
        definitions = _definitions(os.environ.get(DEFINITIONS) or None)
        if (fault := _fault(task.name)) is not None:
            raise InputError(fault)
        try:
            results = simple_evaluate(
                HFLM(pretrained=model, tokenizer=tokenizer, batch_size=BATCH),
                tasks=[task.name],
                task_manager=definitions,
                num_fewshot=task.num_fewshot,
                limit=task.limit,
                apply_chat_template=task.chat and bool(getattr(tokenizer, "chat_template", None)),
                bootstrap_iters=0,
                log_samples=True,
            )
        except Exception as error:  # a task's definition and its data can fail in any way
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise InputError(f"harness task {task.name!r} cannot be run ({reason})") from error
    assert results is not None
    values = _values(results["samples"][task.name])
    if not values:
        measured = sorted(
            {name.split(",")[0] for name in results["results"][task.name] if "," in name and "_stderr" not in name}
        )
        raise InputError(
            f"harness task {task.name!r} measures {', '.join(measured)}; expected one of {', '.join(SHARES)}, "
            "bits_per_byte"
        )
    return values


def check_installed(tasks: Sequence[object]) -> None:
    """Raises InputError where ``tasks`` has harness tasks and the package is not installed."""
    first = next((task for task in tasks if isinstance(task, HarnessTask)), None)
    if first is None:
        return
    try:
        package = find_spec("lm_eval")  # not imported: the caller may be about to fork
    except ValueError:
        package = None
    if package is None:
        raise InputError(
            f"harness task {first.name!r}: lm-evaluation-harness is not installed; "
            'install it with pip install "gcwm-viz[eval]"'
        )


def check_definitions(tasks: Sequence[HarnessTask]) -> None:
    """Raises InputError without the package, and for a task that it does not know.

    The harness is imported in another process, since this one may be about to fork.
    """
    check_installed(tasks)
    fault = _first_fault(tuple(task.name for task in tasks), os.environ.get(DEFINITIONS)) if tasks else None
    if fault is not None:
        raise InputError(fault)


@lru_cache(maxsize=8)
def _first_fault(names: tuple[str, ...], folder: str | None) -> str | None:
    del folder  # the process reads it from the environment itself
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return next(filter(None, pool.map(_fault, names)), None)
    except BrokenProcessPool:  # a script without a main guard, which starts a run when it is imported
        return "harness tasks need a script whose own work stands under if __name__ == '__main__'"


def _fault(name: str) -> str | None:
    """Why a task's name is refused, None where the harness knows it."""
    with _quiet():
        definitions = _definitions(os.environ.get(DEFINITIONS) or None)
    if name in definitions.all_subtasks:
        return None
    kind = "a group of tasks there; name its tasks" if name in definitions.all_tasks else "no task there"
    return f"harness task {name!r}: it is {kind} (own definitions: {DEFINITIONS})"


@lru_cache(maxsize=1)
def _definitions(folder: str | None) -> Any:
    """The harness's index of tasks, which takes seconds to build."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=folder)


def _values(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    first = samples[0]["filter"]
    rows = [sample for sample in samples if sample["filter"] == first]
    values = {
        ours: torch.tensor([float(row[theirs]) for row in rows], dtype=torch.float64)
        for theirs, ours in SHARES.items()
        if theirs in rows[0]
    }
    if "bits_per_byte" in rows[0]:
        likelihoods, sizes = zip(*(row["bits_per_byte"] for row in rows), strict=True)
        bits = torch.tensor(likelihoods, dtype=torch.float64) / -math.log(2)
        values["bpb"] = ratio_values(bits, torch.tensor(sizes, dtype=torch.float64))
    return values


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the harness, which would print progress bars and remarks for every checkpoint."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
