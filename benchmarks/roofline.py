"""A run from disk, compared with the time that its bytes and products take at rates measured on this machine."""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.inputs import QWEN3_06B, Shapes, write_model
from benchmarks.memory import run_peak
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.estimate import matmul_rate


def read_rate(file: Path) -> float:
    """Bytes per second of a file that was dropped from the system's cache."""
    with file.open("rb", buffering=0) as handle:
        os.fsync(handle.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        begin, size = time.perf_counter(), 0
        while chunk := handle.read(1 << 24):
            size += len(chunk)
        return size / (time.perf_counter() - begin)


def products(shapes: Shapes, updates: int, iters: int) -> tuple[float, float]:
    """Operations of Adam's products (single precision, both branches) and of H and G₀ (double, shared by both),
    all steps."""
    adam = build = 0.0
    for d_out, d_in in shapes.values():
        one = 2.0 * d_out * d_in**2
        adam += 2 * updates * iters * one
        members = updates * (updates + 1) / 2
        build += members * 1.5 * one if 2 * d_out > d_in else members * (0.5 * one + 4.0 * d_out**2 * d_in)
    return adam, build


def measure(layers: int = 1, updates: int = 3, iters: int = 20, shapes: Shapes = QWEN3_06B) -> dict[str, Any]:
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    torch.set_num_threads(workers)
    single = matmul_rate(torch.device("cpu"), 2048, 2.0)
    a = torch.randn(1536, 1536, dtype=torch.float64)
    begin = time.perf_counter()
    for _ in range(6):
        a @ a
    double = 6 * 2.0 * 1536**3 / (time.perf_counter() - begin)
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory(prefix="gcwm-bench-") as scratch:
        folder = Path(scratch)
        write_model(folder, shapes, layers, updates)
        files = sorted(folder.rglob("*.safetensors"))
        size = sum(file.stat().st_size for file in files)
        disk = read_rate(files[0])
        settings = ["solver=adam", f"iters={iters}", "keep=last"]
        run = run_peak(folder, updates, workers, settings)
    adam, build = (layers * value for value in products(shapes, updates, iters))
    limit = {"read_s": size / disk, "adam_s": adam / single, "build_s": build / double}
    bound = sum(limit.values())
    assert RunSettings().gcwm.precision == "float32"
    return {
        "layers": layers,
        "updates": updates,
        "iters": iters,
        "workers": workers,
        "disk_gb_s": disk / 1e9,
        "float32_gflops": single / 1e9,
        "float64_gflops": double / 1e9,
        "bytes_gb": size / 1e9,
        "limit": limit,
        "limit_s": bound,
        "achieved_s": run["seconds"],
        "over_limit": run["seconds"] / bound,
    }
