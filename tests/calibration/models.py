"""Inputs in another form."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.linalg.lowrank import dense
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.updates.matrices import target_matrices
from gcwm_viz.updates.sources import open_update
from tests.checkpoints import tiny


def as_checkpoints(inputs: Inputs, root: Path, strengths: Mapping[str, float] | None = None) -> Inputs:
    """The same updates as full checkpoints, which mergekit reads."""
    base = CheckpointIndex.open(inputs.base)
    listed = []
    for place, (name, path) in enumerate(inputs.updates):
        source, content = open_update(name, path, base), dict(tiny.tensors(base.root))
        for key in target_matrices(base):
            delta = source.delta(key)
            if delta is not None:
                content[key.name] = content[key.name] + dense(delta)
        folder = root / f"whole{place}"
        tiny.store(folder, content)
        (folder / "config.json").write_text(json.dumps(base.config))
        listed.append((name, folder))
    return replace(inputs, updates=listed, strengths=strengths or {})
