"""Peak memory of whole runs from disk, beyond the interpreter and torch."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.inputs import QWEN3_06B, Shapes, write_model

GOAL_GB = 1.5
_LIBRARIES = "import gcwm_viz.runs.run, time; print('ready', flush=True); time.sleep(60)"


def run_peak(folder: Path, updates: int, workers: int, settings: list[str]) -> dict[str, float]:
    """Runs ``gcwm-viz run`` on the model of ``write_model`` and monitors its processes."""
    baseline = _libraries()
    command = [sys.executable, "-m", "gcwm_viz", "run", "--base", str(folder / "base"), "--out", str(folder / "run")]
    for index in range(1, updates + 1):
        command += ["--update", f"u{index}={folder / str(index)}"]
    command += ["--device", "cpu", "--workers", str(workers)]
    for setting in settings:
        command += ["--set", setting]
    begin = time.perf_counter()
    peak, log = 0, folder / "log.txt"
    with log.open("w") as sink, subprocess.Popen(command, stdout=sink, stderr=sink) as child:
        watched = psutil.Process(child.pid)
        while child.poll() is None:
            peak = max(peak, _beyond(watched, baseline))
            time.sleep(0.1)
    if child.returncode != 0:
        raise RuntimeError(log.read_text()[-2000:])
    return {"peak_gb": peak / 1e9, "seconds": time.perf_counter() - begin, "libraries_gb": baseline / 1e9}


def measure(layers: int = 28, updates: int = 3, many: int = 14, shapes: Shapes = QWEN3_06B) -> dict[str, Any]:
    """A model of ``layers`` with ``updates``, and one of a single layer with ``many`` of them."""
    result: dict[str, Any] = {"goal_gb": GOAL_GB}
    # With many updates two workers take some 1.8 GB, so there is one, as under a memory budget of 1.5 GB.
    for label, depth, count, workers in (("model", layers, updates, 2), ("many_updates", 1, many, 1)):
        with tempfile.TemporaryDirectory(prefix="gcwm-bench-") as scratch:
            folder = Path(scratch)
            write_model(folder, shapes, depth, count)
            size = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
            peak = run_peak(folder, count, workers, ["keep=last"])
            result[label] = {"layers": depth, "updates": count, "workers": workers, "inputs_gb": size / 1e9} | peak
            print(f"  {label}: {result[label]}", flush=True)
    result["peak_gb"] = max(result["model"]["peak_gb"], result["many_updates"]["peak_gb"])
    return result


def _beyond(process: psutil.Process, baseline: int) -> int:
    """Resident bytes of a process and its workers, each less what the libraries take."""
    total = 0
    try:
        for member in (process, *process.children(recursive=True)):
            total += max(0, member.memory_info().rss - baseline)
    except psutil.NoSuchProcess:
        pass
    return total


def _libraries() -> int:
    """Resident bytes of an interpreter that has only imported what a run imports."""
    with subprocess.Popen([sys.executable, "-c", _LIBRARIES], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        resident: int = psutil.Process(child.pid).memory_info().rss
        child.kill()
    return resident
