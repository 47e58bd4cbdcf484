"""LoRA updates against dense updates of the same shape."""

from functools import partial
from typing import Any

import torch

from benchmarks import machine
from benchmarks.inputs import RMS
from gcwm_viz import GCWMConfig, merge_layer
from gcwm_viz.linalg.lowrank import LowRank, dense

GOAL = 5.0
EQUAL = 1e-4


def measure(shape: tuple[int, int] = (3072, 1024), rank: int = 16, m: int = 3, iters: int = 100) -> dict[str, Any]:
    d_out, d_in = shape
    rng = torch.Generator().manual_seed(0)
    scale = RMS * rank**-0.5
    thin = [
        LowRank(scale * torch.randn(d_out, rank, generator=rng), torch.randn(rank, d_in, generator=rng))
        for _ in range(m)
    ]
    full = [update.dense() for update in thin]
    result: dict[str, Any] = {"goal": GOAL}
    for solver in ("adam", "exact"):
        config = GCWMConfig(solver=solver, iters=iters)
        merge_layer(thin, config=GCWMConfig(solver=solver, iters=2))
        thin_s, ours = machine.timed(partial(merge_layer, thin, config=config))
        full_s, other = machine.timed(partial(merge_layer, full, config=config))
        difference = machine.relative(dense(ours.merged), dense(other.merged))
        assert difference <= EQUAL, difference
        result[solver] = {"lora_s": thin_s, "dense_s": full_s, "speedup": full_s / thin_s, "difference": difference}
        print(f"  {solver}: {result[solver]}", flush=True)
    return result
