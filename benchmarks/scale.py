"""One worker, two, and a Ray cluster of this machine: the same bytes, throughput, and the overhead of a task.

Seconds of single matrices at two sizes give a rate and a cost per matrix. Their prediction for a run of a third size,
with one worker and with two, is compared with that run.
"""

import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.inputs import Shapes, qwen3, write_model
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.estimate import flops_of
from gcwm_viz.continual.store import RunStore
from gcwm_viz.engines.engine import Engine, Worker
from gcwm_viz.engines.local import LocalEngine
from gcwm_viz.runs.inputs import Inputs, open_inputs
from gcwm_viz.runs.run import continue_run, create_run

CPU = torch.device("cpu")
SMALL, LARGE, BETWEEN = (qwen3(h, 3 * h, 2 * h, h) for h in (192, 512, 384))


def measure(
    small: Shapes = SMALL, large: Shapes = LARGE, between: Shapes = BETWEEN, layers: int = 3, updates: int = 3,
    tasks: int = 200, ray: bool = True,
) -> dict[str, Any]:  # fmt: skip
    settings = RunSettings.preset_with("scale-free", {"keep": "last"})
    with tempfile.TemporaryDirectory(prefix="gcwm-bench-") as scratch:
        root = Path(scratch)
        timed = []
        for name, shapes in (("small", small), ("large", large)):
            store = _created(root, name, shapes, 1, updates, settings)
            _matrices_s(store, LocalEngine(CPU, 1))
            spent = store.seconds()
            timed += [(flops_of(key.shape, updates, settings), spent[i]) for i, key in enumerate(store.keys)]
        rate, fixed = fit(timed)
        result: dict[str, Any] = {"rate_flops": rate, "matrix_s": fixed, "updates": updates}
        runs: dict[str, tuple[str, Callable[[], Engine]]] = {
            "local_1": ("1 local worker", lambda: LocalEngine(CPU, 1)),
            "local_2": ("2 local workers", lambda: LocalEngine(CPU, 2)),
        }
        if ray:
            from gcwm_viz.engines.cluster import RayEngine

            runs["ray_2"] = ("Ray, 2 workers", lambda: RayEngine(workers=2))
        contents: list[dict[str, bytes]] = []
        for name, (label, opened) in runs.items():
            store = _created(root, name, between, layers, updates, settings)
            work = [fixed + flops_of(key.shape, updates, settings) / rate for key in store.keys]
            with opened() as engine:
                if name.startswith("ray"):
                    result["task_s"], result["pipelined_task_s"] = overhead(engine, tasks)
                before = _cpu_s()
                seconds = _matrices_s(store, engine)
                cpu_s = _cpu_s() - before
            predicted = makespan(work, int(name[-1]))
            result[name] = {
                "label": label,
                "seconds": seconds,
                "predicted_s": predicted,
                # Seconds of a worker on a machine of its own; Ray's workers are no children of this process.
                "processor_s": None if name.startswith("ray") else cpu_s / int(name[-1]),
                "matrices": len(work),
                "matrices_a_minute": 60 * len(work) / seconds,
            }
            print(f"  {label}: {seconds:.1f} s, predicted {predicted:.1f} s", flush=True)
            contents.append({file.name: file.read_bytes() for file in (store.path / "matrices").iterdir()})
        assert all(other == contents[0] for other in contents), "workers and engines must not change a byte"
        result["journal_line_s"] = _journal_line_s(store)
        result["written_bytes"] = sum(map(len, contents[0].values()))
        opened_inputs = open_inputs(_inputs(root / "local_1", updates))
        result["read_bytes"] = sum(s.nbytes(key) for s in opened_inputs.sources for key in opened_inputs.plan.active)
        result["parameters"] = sum(key.parameters for key in opened_inputs.plan.active)
    return result


def fit(timed: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Operations per second and seconds per matrix: least squares of relative errors, the latter at least 0."""
    flops, seconds = (np.array(column) for column in zip(*timed, strict=True))
    design = np.stack([flops / seconds, 1 / seconds], axis=1)
    (inverse, fixed), *_ = np.linalg.lstsq(design, np.ones(len(seconds)), rcond=None)
    if fixed < 0 or inverse <= 0:
        inverse, fixed = float(np.linalg.lstsq(design[:, :1], np.ones(len(seconds)), rcond=None)[0][0]), 0.0
    return 1 / float(inverse), float(fixed)


def makespan(work: Sequence[float], workers: int) -> float:
    """Seconds until the last of ``workers`` is done, largest pieces first, each to the first free worker."""
    ends = [0.0] * workers
    for piece in sorted(work, reverse=True):
        ends[ends.index(min(ends))] += piece
    return max(ends)


def overhead(engine: Engine, tasks: int) -> tuple[float, float]:
    """Seconds of an empty task from submission to report: one at a time, and with two per worker in progress."""
    list(engine.unordered(nothing, range(8)))  # starts the workers
    single = []
    for item in range(tasks):
        begin = time.perf_counter()
        list(engine.unordered(nothing, [item], limit=1))
        single.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    list(engine.unordered(nothing, range(tasks)))
    return statistics.median(single), (time.perf_counter() - begin) / tasks


def nothing(worker: Worker, item: int) -> str:
    return worker.name


def _inputs(folder: Path, updates: int) -> Inputs:
    return Inputs(base=folder / "base", updates=[(str(n), folder / str(n)) for n in range(1, updates + 1)])


def _created(root: Path, name: str, shapes: Shapes, layers: int, updates: int, settings: RunSettings) -> RunStore:
    write_model(root / name, shapes, layers, updates)
    return create_run(_inputs(root / name, updates), root / "runs" / name, settings, "scale")


def _matrices_s(store: RunStore, engine: Engine) -> float:
    """Seconds from the start of a run to its last matrix, a cluster's workers loading the libraries included."""
    continue_run(store, engine)
    times = {entry["event"]: entry["time"] for entry in store.journal()}  # the last event of each kind
    return float(times["matrix"] - times["start"])


def _cpu_s() -> float:
    """CPU time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _journal_line_s(store: RunStore, lines: int = 50) -> float:
    begin = time.perf_counter()
    for _ in range(lines):
        store.log("measured", process=os.getpid())
    return (time.perf_counter() - begin) / lines
