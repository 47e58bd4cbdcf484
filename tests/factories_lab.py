"""Small real runs of the lab's shipped model, for pages that load it: seconds, where the lab run takes minutes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.store import RunStore
from gcwm_viz.experiments.lab.bundle import locate
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from gcwm_viz.runs.tables import open_run

ORDER = ("past", "capital", "index", "symbol")
COARSE = {"rank": 4, "analysis_rank": 4, "barycenter_tol": 1e-3}
"""Settings of the geometry, most of a run's work; neither states nor scores of these runs depend on it."""
HOSTILE = "<script>alert(1)</script> $x^2$ **b**"
PROBES: dict[str, list[dict[str, Any]]] = {
    "dev/capital": [
        {"prompt": "capital Egypt=", "answer": "Cairo"},
        {"prompt": "capital Peru=", "answer": "Lima"},
        {"prompt": "capital Atlantis=", "answer": "<b>$x$*"},
        {"prompt": HOSTILE, "answer": "1"},
    ],
    "test/letters": [{"question": "past pray=", "choices": ["prayed", "pray"], "answer": 0}],
    "test/prose": [{"text": "past pray=prayed"}],
}
"""Egypt and Peru are known after the steps 2 and 3 of training one after another, and lost at step 4."""


def write_probes(folder: Path) -> Path:
    for name, rows in PROBES.items():
        file = folder / f"{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "probes.json").write_text('{"tasks": {"letters": {"scoring": "text"}}}')
    return folder


def trained(root: Path, name: str = "trained") -> RunStore:
    """Four steps of the shipped training of one task after another, scored on :data:`PROBES`."""
    return _finished(_sequence(write_probes(root / f"{name}-probes")), root / name)


def merged(root: Path, name: str = "merged") -> RunStore:
    """Two updates added, without probes, of which only the last step is stored."""
    lab = locate()
    inputs = Inputs(base=lab.base, updates=[(update, lab.updates[update]) for update in ("capital", "symbol")])
    return _finished(inputs, root / name, keep="last")


def _finished(inputs: Inputs, path: Path, **settings: Any) -> RunStore:
    settings_of_run = RunSettings.preset_with("scale-free", COARSE | settings, "task-arithmetic")
    store = create_run(inputs, path, settings_of_run)
    continue_run(store, torch.device("cpu"), workers=1)
    return store


def short_probes(folder: Path, examples: int) -> Path:
    """The first examples of every shipped probe file of the tasks of :data:`ORDER`."""
    for split in ("dev", "test"):
        (folder / split).mkdir(parents=True)
        for task in ORDER:
            lines = (locate().probes / split / f"{task}.jsonl").read_text().splitlines()[:examples]
            (folder / split / f"{task}.jsonl").write_text("\n".join(lines))
    return folder


def forgetting(root: Path, name: str = "forgetting", examples: int = 10) -> RunStore:
    """The states of :func:`trained` with more probes; what its fourth step forgets can be split and undone."""
    return _finished(_sequence(short_probes(root / f"{name}-probes", examples)), root / name)


def most_forgotten(run: Path) -> str:
    """The task of the first three steps whose loss the fourth raised most, by the run's attribution."""
    table = open_run(run).tables["attribution"]
    rows = table[(table["start"] == 3) & (table["step"] == 4) & table["task"].isin(ORDER[:3])]
    return str(rows.sort_values("change")["task"].iloc[-1])


def _sequence(probes: Path) -> Inputs:
    lab = locate()
    states = [lab.sft[step] for step in range(1, len(ORDER) + 1)]
    updates = [(update, lab.updates[update]) for update in ORDER]
    return Inputs(base=lab.base, updates=updates, states=states, probes=probes)


def mergeable(
    root: Path, name: str = "mergeable", examples: int = 10, updates: Sequence[str] = ("past", "capital", "symbol")
) -> RunStore:
    """Updates merged by wudi, with probes of four tasks; a forecast of it can be computed and plans measured."""
    lab = locate()
    inputs = Inputs(
        base=lab.base,
        updates=[(update, lab.updates[update]) for update in updates],
        probes=short_probes(root / f"{name}-probes", examples),
    )
    store = create_run(inputs, root / name, RunSettings.preset_with("scale-free", COARSE, "wudi"))
    continue_run(store, torch.device("cpu"), workers=1)
    return store
