"""The machine of a measurement, and the file of its result."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch

RESULTS = Path(__file__).parent / "results"
Value = TypeVar("Value")


def describe() -> dict[str, Any]:
    """CPU, GPU, memory, load, versions and commit."""
    model = platform.processor()
    if Path("/proc/cpuinfo").is_file():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    machine = {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{package: _version(package) for package in ("torch", "numpy", "safetensors")},
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
        machine["gpu_memory_gb"] = round(torch.cuda.get_device_properties(0).total_memory / 1e9, 1)
    return machine


def write(name: str, settings: dict[str, Any], result: dict[str, Any]) -> None:
    """``results/NAME.json`` with the machine beside the numbers."""
    RESULTS.mkdir(exist_ok=True)
    content = {"machine": describe(), "settings": settings, "result": result}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


def read(name: str) -> dict[str, Any] | None:
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text()) if file.is_file() else None


def timed(work: Callable[[], Value], repeat: int = 1) -> tuple[float, Value]:
    """Seconds of the fastest of ``repeat`` calls, and what the last one returned."""
    best = float("inf")
    for _ in range(repeat):
        begin = time.perf_counter()
        value = work()
        best = min(best, time.perf_counter() - begin)
    return best, value


def relative(ours: torch.Tensor, other: torch.Tensor) -> float:
    """‖A − B‖_F / ‖B‖_F."""
    return float(torch.linalg.vector_norm(ours.double() - other.double()) / torch.linalg.vector_norm(other.double()))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # the GPU benchmark runs without some
        return "absent"


def _commit() -> str:
    root = Path(__file__).resolve().parents[1]
    try:
        return subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
