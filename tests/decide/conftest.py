"""A tiny run that was merged and scored, with three updates; copies of it for tests that write."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.store import RunStore
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from tests.torture.small import NAMES, write_inputs

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def tiny_inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """``first`` and ``third`` are measured by exact match, ``second`` by choices."""
    root = tmp_path_factory.mktemp("tiny")
    write_inputs(root)
    for split in ("dev", "test"):
        rows = [{"question": f"{k}=", "choices": ["1", "2", "3"], "answer": k % 3} for k in range(9)]
        (root / "probes" / split / "second.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (root / "probes" / "probes.json").write_text(json.dumps({"tasks": {"second": {"scoring": "text"}}}))
    return Inputs(base=root / "base", updates=[(name, root / name) for name in NAMES], probes=root / "probes")


@pytest.fixture(scope="session")
def tiny_run(tiny_inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """tiny_run("wudi", eta=0.5) → a finished run with these settings, the same folder for the same settings."""
    made: dict[str, Path] = {}

    def finished(method: str = "wudi", inputs: Inputs = tiny_inputs, **settings: Any) -> Path:
        key = json.dumps([method, settings, str(inputs)])
        if key not in made:
            store = create_run(
                inputs, tmp_path_factory.mktemp("runs") / "run", RunSettings.preset_with("scale-free", settings, method)
            )
            continue_run(store, CPU, workers=1)
            made[key] = store.path
        return made[key]

    return finished


@pytest.fixture
def run(tiny_run: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy of the run of wudi."""
    return Path(shutil.copytree(tiny_run(), tmp_path / "run"))


@pytest.fixture
def store(run: Path) -> RunStore:
    return RunStore.open(run)
