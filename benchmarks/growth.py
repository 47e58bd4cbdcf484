"""Growth of time with the number of updates and with the hidden size, and the time of geometry over many steps."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks import machine
from benchmarks.inputs import random_update
from gcwm_viz import GCWMConfig, merge_layer
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.result import process_matrix
from gcwm_viz.updates.matrices import MatrixKey


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Slope of log time over log size, least squares."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def measure(
    hidden: int = 1024,
    counts: Sequence[int] = (2, 3, 6, 14),
    sizes: Sequence[int] = (512, 1024, 2048, 4096),
    tasks: int = 14,
    iters: int = 20,
) -> dict[str, Any]:
    updates = [random_update((hidden, hidden), seed) for seed in range(1, max(*counts, tasks) + 1)]
    result: dict[str, Any] = {}
    for solver in ("exact", "adam"):
        config = GCWMConfig(solver=solver, iters=iters)
        merge_layer(updates[:2], config=config)
        seconds = [machine.timed(partial(merge_layer, updates[:m], config=config))[0] for m in counts]
        result[f"updates_{solver}"] = {"m": list(counts), "seconds": seconds, "exponent": exponent(counts, seconds)}
        print(f"  m, {solver}: {seconds}", flush=True)
    config = GCWMConfig()
    seconds = []
    for size in sizes:
        pair = [random_update((size, size), seed) for seed in (1, 2)]
        seconds.append(machine.timed(partial(merge_layer, pair, config=config))[0])
        print(f"  hidden {size}: {seconds[-1]:.2f} s", flush=True)
    result["hidden"] = {"hidden": list(sizes), "seconds": seconds, "exponent": exponent(sizes, seconds)}
    key = MatrixKey("model.layers.0.self_attn.q_proj.weight", 0, "q_proj", (hidden, hidden))
    names = [f"task {index}" for index in range(1, tasks + 1)]
    states = [torch.stack(updates[:step]).mean(0) for step in range(1, tasks + 1)]
    spent, rows = machine.timed(lambda: process_matrix(key, names, updates[:tasks], RunSettings(), states))
    last = rows.rows["matrices"][-1]
    assert last["barycenter_residual"] <= 1e-8, last
    result["geometry"] = {"tasks": tasks, "hidden": hidden, "seconds": spent, "union_rank": last["union_rank"]}
    print(f"  geometry: {result['geometry']}", flush=True)
    return result
