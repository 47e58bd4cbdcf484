"""The ``regate`` job of a run: which gate at which step, and where its answer is stored."""

import hashlib
import json
from pathlib import Path
from typing import Any

from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.jobs.spec import JobSpec, digest
from gcwm_viz.studies.regate import FORMAT, GATE_SETTINGS, check_regatable


def obstacle(store: RunStore) -> str:
    """Why no other gate of this run can be scored, or an empty text."""
    try:
        check_regatable(store)
    except InputError as error:
        return str(error)
    return "" if store.file.probes.where else "this run was started without probes."


def job_name(run: Path) -> str:
    """One scoring at a time for each run."""
    return f"regate-{digest(str(run))}"


def answer_file(root: Path, run: Path, step: int, config: GCWMConfig) -> Path:
    """Of this step and gate: a gate is scored once. Another run in the same folder has other answers, because run.json,
    with its settings and the fingerprints of its inputs, is part of the name."""
    run_file = hashlib.sha256((run / "run.json").read_bytes()).hexdigest()
    question = json.dumps([run_file, step, *(getattr(config, setting) for setting in GATE_SETTINGS)])
    return root / ".jobs" / job_name(run) / f"{digest(question)}.json"


def regate_job(root: Path, run: Path, step: int, config: GCWMConfig) -> JobSpec:
    """Scores ``config``'s gate at ``step``; the answer goes to :func:`answer_file`."""
    settings = [part for name in GATE_SETTINGS for part in ("--set", f"{name}={getattr(config, name)}")]
    out = answer_file(root, run, step, config)
    return JobSpec(
        name=job_name(run),
        key="regate",
        subject="The last scoring",
        doing="Scoring the model as run, then with this gate.",
        arguments=["regate", str(run), "--step", str(step), *settings, "--out", str(out)],
        resumable=False,
    )


def read_answer(file: Path) -> dict[str, Any] | None:
    """What the command wrote, or None where there is nothing readable of it."""
    try:
        answer = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) and answer.get("format") == FORMAT else None
