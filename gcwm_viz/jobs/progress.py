"""Progress of a run or a study from its journal: pieces done, time left, the speed of each worker."""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcwm_viz.continual import journal
from gcwm_viz.errors import InputError

if TYPE_CHECKING:
    from gcwm_viz.continual.store import RunStore

_WHAT = {
    "probes": "models scored",
    "losses": "losses split",
    "predictors": "parts of the forecast computed",
    "plans": "plans scored",
    "eta": "parts of the search for η done: one final merge, scored at several η",
}
_PHASES = {
    "probe": "probes",
    "complete": "probes",
    "loss": "losses",
    "piece": "predictors",
    "plan": "plans",
    "eta": "eta",
}
"""By the event in the journal; any other is of matrices."""
SLOW = 0.67
"""Below this speed a worker is called slow."""


@dataclass(frozen=True)
class Progress:
    """Progress at one moment. ``left``: seconds to the end of the phase, NaN before its first piece is done.

    phase: ``starting``, ``matrices``, or a key of ``_WHAT``. label: the last finished piece, text from files.
    """

    phase: str
    done: int = 0
    total: int = 0
    label: str = ""
    left: float = math.nan

    @property
    def share(self) -> float:
        return min(max(self.done / self.total, 0.0), 1.0) if self.total > 0 else 0.0

    @property
    def sentence(self) -> str:
        """Pieces done and time left, in words."""
        if self.phase == "starting" or not self.total:
            return "Starting: reading the inputs"
        what = _WHAT.get(self.phase, "matrices merged")
        left = "" if math.isnan(self.left) else f", about {duration(self.left)} left for this part"
        return f"{self.done} of {self.total} {what}{left}"


def progress_of(folder: Path, now: float | None = None) -> Progress:
    """Progress of the run or study that writes ``folder``, at ``now`` (seconds since the epoch).

    Time left, of runs only, assumes that a matrix takes time in proportion to its parameters: the largest come first,
    so a mean over matrices would be far too long.
    """
    now = time.time() if now is None else now
    try:
        entries = journal.entries(folder / "journal.jsonl")
        if entries and not (folder / "run.json").is_file():
            newest = _newest(entries[-1])
            work = next((entry["event"] for entry in reversed(entries) if entry["event"] != "complete"), "")
            return replace(newest, phase=_PHASES.get(work, newest.phase))
        if not entries and not (folder / "run.json").is_file():
            return Progress("starting")
        store = _open(folder)
    except InputError:
        return Progress("starting")
    if store.file.lacks_eta:
        searched = [entry for entry in entries if entry["event"] == "eta"]
        return _newest(searched[-1]) if searched else Progress("starting")
    session = _session(entries)
    total = len(store.keys)
    merged = next((entry for entry in session if entry["event"] == "matrices-done"), None)
    if merged is not None:
        probes = [entry for entry in session if entry["event"] == "probe"]
        if not probes:
            return Progress("probes" if store.file.probes.where else "matrices", total, total)
        newest = _newest(probes[-1])
        return replace(newest, left=_left(merged, probes[-1], len(probes), newest.total - newest.done, now))
    finished = [entry for entry in session if entry["event"] == "matrix"]
    if not finished:
        return Progress("matrices" if session else "starting", _count(session[0], "done") if session else 0, total)
    merged_ever = {_count(entry, "index") for entry in entries if entry["event"] == "matrix"}
    sizes = {index: key.parameters for index, key in enumerate(store.keys)}
    work = sum(sizes.get(_count(entry, "index"), 0) for entry in finished)
    remaining = sum(size for index, size in sizes.items() if index not in merged_ever)
    left = _left(session[0], finished[-1], work, remaining, now)
    return replace(_newest(finished[-1]), total=total, left=left)


@dataclass(frozen=True)
class WorkerPace:
    """What one worker has done since the run was last started.

    speed: time that matrices of the same shapes took on the mean of all workers, over its own; 1 = as fast as all
    together, NaN before its first timed result. silent: seconds since its last result. Names are text from a file.
    """

    name: str
    matrices: int
    speed: float
    silent: float

    @property
    def slow(self) -> bool:
        return self.speed < SLOW


def paces(run: Path, now: float | None = None) -> list[WorkerPace]:
    """Every worker since the run was last started, by name; none in journals that do not name workers."""
    now = time.time() if now is None else now
    try:
        shapes = [key.shape for key in _open(run).keys]
        entries = journal.entries(run / "journal.jsonl")
    except InputError:
        return []
    import pandas as pd

    rows = []
    for entry in _session(entries):
        index, worker, ended, spent = (entry.get(name) for name in ("index", "worker", "time", "seconds"))
        if entry["event"] != "matrix" or not isinstance(worker, str) or not isinstance(ended, int | float):
            continue
        if type(index) is int and 0 <= index < len(shapes):
            seconds = float(spent) if isinstance(spent, int | float) and 0 < spent < math.inf else math.nan
            rows.append((worker[:100], shapes[index], float(ended), seconds))
    if not rows:
        return []
    frame = pd.DataFrame(rows, columns=["worker", "shape", "ended", "seconds"])
    # By shape, because a large matrix takes long on the fastest worker too.
    frame["usual"] = frame.groupby("shape")["seconds"].transform("mean")
    workers = []
    for name, part in frame.groupby("worker", sort=True):
        timed = part.dropna()  # a worker that finds the result of a dead one records no time
        speed = float(timed["usual"].sum() / timed["seconds"].sum()) if len(timed) else math.nan
        workers.append(WorkerPace(str(name), len(part), speed, max(0.0, now - float(part["ended"].max()))))
    return workers


def duration(seconds: float) -> str:
    """Seconds as ``8 s``, ``3 min`` or ``2.5 h``."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _open(run: Path) -> "RunStore":
    """Imported when there is one: the first page of a server tells of a job before it."""
    from gcwm_viz.continual.store import RunStore

    return RunStore.open(run)


def _session(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was logged since the run was last started."""
    starts = [line for line, entry in enumerate(entries) if entry["event"] == "start"]
    return entries[starts[-1] :] if starts else []


def _newest(entry: dict[str, Any]) -> Progress:
    """Progress as one journal line tells it; the last line of a study is that of its models."""
    phase = _PHASES.get(entry["event"], "matrices")
    return Progress(phase, _count(entry, "done"), _count(entry, "total"), str(entry.get("label", "")))


def _left(first: dict[str, Any], last: dict[str, Any], work: float, remaining: float, now: float) -> float:
    began, ended = first.get("time"), last.get("time")
    if not isinstance(began, int | float) or not isinstance(ended, int | float) or work <= 0:
        return math.nan
    return max(0.0, (ended - began) / work * remaining - max(0.0, now - ended))


def _count(entry: dict[str, Any], name: str) -> int:
    value = entry.get(name)
    return value if type(value) is int else 0
