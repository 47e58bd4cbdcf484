"""A whole step on one GPU: Qwen3-8B shapes, updates generated on the GPU. ``python -m benchmarks.gpu``.

Needs only torch, numpy, scipy and threadpoolctl. Without a GPU nothing is measured; ``--tiny`` rehearses on the CPU.
"""

import argparse
import contextlib
import time
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks import machine
from benchmarks.inputs import QWEN3_8B, TINY, Shapes, random_update
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.linalg.lowrank import dense
from gcwm_viz.merging.gcwm import LayerMerge, merge_layer
from gcwm_viz.merging.products import tf32

LAYERS = 36
PUBLISHED_MINUTES = {1: 20.6, 2: 40.9, 3: 59.9}
PUBLISHED_GB = {1: 4.4, 2: 7.8, 3: 11.1}
MODES: dict[str, dict[str, Any]] = {
    "adam float32": {"solver": "adam"},
    "adam TF32": {"solver": "adam", "products": "tf32"},
    "adam bf16x3": {"solver": "adam", "products": "bf16x3"},
    "exact": {"solver": "exact"},
}


def measure(
    device: torch.device, shapes: Shapes = QWEN3_8B, measured: int = 1, layers: int = LAYERS, iters: int = 100
) -> dict[str, Any]:
    """Seconds of a step of ``layers`` layers from ``measured`` of them, and peak memory, for m = 1, 2, 3."""
    result: dict[str, Any] = {"layers": layers, "layers_measured": measured, "rates_tflops": _rates(device)}
    for m in (1, 2, 3):
        outcomes: dict[str, Outcome] = {}
        for mode, settings in MODES.items():
            config = GCWMConfig(iters=iters, **settings)
            _reset(device)
            seconds = 0.0
            families: dict[str, float] = {}
            for layer in range(measured + 1):  # the first includes the libraries' initialisation and is not counted
                for index, (module, shape) in enumerate(shapes.items()):
                    updates = [random_update(shape, 100 * layer + 10 * index + i, device) for i in range(m)]
                    _wait(device)
                    begin = time.perf_counter()
                    merge = merge_layer(updates, config=config)
                    _wait(device)
                    spent = time.perf_counter() - begin
                    if layer:
                        seconds += spent
                        families[module] = families.get(module, 0.0) + spent
                    if layer == measured and module == "mlp.gate_proj":
                        outcomes[mode] = Outcome.of(merge)
                    del merge, updates  # the peak is one matrix's
            row = {"seconds": seconds * layers / measured, "peak_gb": _peak(device), "layer_s": families}
            row["published_minutes"], row["published_gb"] = PUBLISHED_MINUTES[m], PUBLISHED_GB[m]
            result[f"m={m}, {mode}"] = row
            print(f"m={m}, {mode}: {row['seconds']:.1f} s, peak {row['peak_gb']:.1f} GB", flush=True)
        for fast in ("adam TF32", "adam bf16x3"):
            result[f"m={m}, effect of {fast.removeprefix('adam ')}"] = effect(outcomes[fast], outcomes["adam float32"])
    result["difference_from_processor"] = _from_cpu(device, min(shapes.values()))
    result["limit_s"] = _limits(shapes, layers, iters, result["rates_tflops"])
    return result


@dataclass(frozen=True)
class Outcome:
    """The compared values of a merge, on the CPU. ``moved``: ‖plain − Σ Δ_i‖_F."""

    gamma: torch.Tensor
    alpha: float
    merged: torch.Tensor
    moved: float

    @classmethod
    def of(cls, merge: LayerMerge) -> "Outcome":
        start = merge.plain_solution.start_norm if merge.plain_solution else float("nan")
        merged = dense(merge.merged).cpu()
        return cls(merge.pairwise_conflict.cpu(), merge.alpha, merged, merge.plain_shift * start)


def effect(fast: Outcome, reference: Outcome) -> dict[str, float]:
    """Effect of faster products: γ and α absolute, the merged update relative to itself and to its displacement."""
    error = float((fast.merged - reference.merged).double().norm())
    return {
        "gamma": float((fast.gamma - reference.gamma).abs().nan_to_num().max()),
        "alpha": abs(fast.alpha - reference.alpha),
        "merged": machine.relative(fast.merged, reference.merged),
        "of_displacement": error / reference.moved if reference.moved > 0 else float("nan"),
    }


def _from_cpu(device: torch.device, shape: tuple[int, int]) -> dict[str, dict[str, float]]:
    """Difference of the same merge from the CPU's, as in :func:`effect`."""
    updates = [random_update(shape, seed) for seed in (1, 2, 3)]
    effects = {}
    for solver in ("adam", "exact"):
        config = GCWMConfig(solver=solver)
        on_cpu = Outcome.of(merge_layer(updates, config=config))
        on_device = Outcome.of(merge_layer([update.to(device) for update in updates], config=config))
        effects[solver] = effect(on_device, on_cpu)
    return effects


def _limits(shapes: Shapes, layers: int, iters: int, rates: dict[str, float]) -> dict[str, float]:
    """Seconds of Adam's products alone, both branches, at each measured rate."""
    flops = layers * sum(2 * iters * 2.0 * d_out * d_in**2 for d_out, d_in in shapes.values())
    return {name: flops / 1e12 / rate for name, rate in rates.items()}


def _rates(device: torch.device) -> dict[str, float]:
    size = 8192 if device.type == "cuda" else 256
    rates = {}
    for name, dtype, fast in (
        ("float32", torch.float32, False),
        ("TF32", torch.float32, True),
        ("float64", torch.float64, False),
    ):
        a = torch.randn(size, size, device=device, dtype=dtype)
        with tf32() if fast else contextlib.nullcontext():
            a @ a
            _wait(device)
            begin = time.perf_counter()
            for _ in range(5):
                a @ a
            _wait(device)
        rates[name] = 5 * 2.0 * size**3 / (time.perf_counter() - begin) / 1e12
    return rates


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _reset(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else float("nan")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--layers-measured", type=int, default=1, help="layers to run; the time of 36 is extrapolated")
    parser.add_argument("--tiny", action="store_true", help="rehearse on the CPU at small shapes; writes nothing")
    options = parser.parse_args()
    if options.tiny:
        measure(torch.device("cpu"), TINY, iters=5)
        return 0
    if not torch.cuda.is_available():
        print("no GPU here: nothing measured; --tiny rehearses on the CPU")
        return 2
    result = measure(torch.device("cuda"), measured=options.layers_measured)
    machine.write("gpu", {"shapes": "Qwen3-8B", "iters": 100}, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
