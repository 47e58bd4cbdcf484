"""Small real runs of the lab's shipped model, for pages that load it: seconds, where the lab run takes minutes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.store import RunStore
from gcwm_viz.experiments.lab.bundle import locate
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run

ORDER = ("past", "capital", "index", "symbol")
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
    lab = locate()
    inputs = Inputs(
        base=lab.base,
        updates=[(update, lab.updates[update]) for update in ORDER],
        states=[lab.sft[step] for step in range(1, len(ORDER) + 1)],
        probes=write_probes(root / f"{name}-probes"),
    )
    return _finished(inputs, root / name)


def merged(root: Path, name: str = "merged") -> RunStore:
    """Two updates added, without probes, of which only the last step is stored."""
    lab = locate()
    inputs = Inputs(base=lab.base, updates=[(update, lab.updates[update]) for update in ("capital", "symbol")])
    return _finished(inputs, root / name, keep="last")


def _finished(inputs: Inputs, path: Path, **settings: Any) -> RunStore:
    settings_of_run = RunSettings.preset_with("scale-free", settings, "task-arithmetic")
    store = create_run(inputs, path, settings_of_run)
    continue_run(store, torch.device("cpu"), workers=1)
    return store
