"""The first run of the lab, from the command to the finished tables and probes."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gcwm_viz.continual.store import RunStore

GOAL_S = 15.0


def measure() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="gcwm-bench-") as scratch:
        begin = time.perf_counter()
        command = [sys.executable, "-m", "gcwm_viz", "lab", "run", "--out", f"{scratch}/lab"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        total = time.perf_counter() - begin
        events = RunStore.open(Path(scratch) / "lab").journal()
    at = {entry["event"]: entry["time"] for entry in events if entry["event"] in ("start", "matrices-done", "complete")}
    return {
        "seconds": total,
        "start_s": total - (at["complete"] - at["start"]),
        "matrices_s": at["matrices-done"] - at["start"],
        "probes_s": at["complete"] - at["matrices-done"],
        "goal_s": GOAL_S,
    }
