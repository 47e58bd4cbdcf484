"""The model of a step with chosen matrices put back, as a checkpoint with its scores beside it."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from gcwm_viz.attribution.restore import Restoration, Shares
from gcwm_viz.export.checkpoint import export_states, open_finished, outside
from gcwm_viz.linalg.lowrank import Update, dense

SCORES = "restoration.json"


def export_restored(
    restoration: Restoration,
    shares: Shares,
    scores: pd.DataFrame,
    out: Path,
    dtype: torch.dtype | None = None,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """The model with ``shares`` undone as a whole checkpoint, see :func:`~gcwm_viz.export.checkpoint.export_step`;
    ``restoration.json`` in it holds what was undone and the rows of ``scores``."""
    store, ends = restoration.live.store, restoration.ends
    opened = open_finished(store, ends.step)
    keys, updates = restoration.live.merged.keys, restoration.updates(shares)

    def stored(place: int, update: Update) -> Tensor:
        return keys[place].from_linear(dense(update).float())

    states: dict[str, Callable[[], Tensor | None]] = {
        keys[place].name: partial(stored, place, update) for place, update in enumerate(updates) if update is not None
    }
    held = {key.name for key in keys}  # what the loaded model lacks, such as another tower, is undone by nothing
    states |= {name: read for name, read in outside(store, ends.step, opened).items() if name not in held}
    undone = {name: share for name, share in shares.items() if share > 0}
    remark = f"In {len(undone)} of {len(keys)} matrices the path from {ends.words} is undone; {SCORES} says in which."
    rows = json.loads(scores.to_json(orient="records"))
    about = {"run": store.file.name, "start": ends.start, "step": ends.step, "undone": undone, "scores": rows}
    return export_states(store, ends.step, opened, states, out, dtype, tell, remark, {SCORES: about})
