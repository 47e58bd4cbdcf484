"""From the rows of all matrices to the tables of a run."""

import math
from typing import Any

import pandas as pd

from gcwm_viz.continual.config import RunSettings

AVERAGED = (
    "conflict",
    "alpha",
    "active_conflict",
    "state_conflict",
    "state_gap",
    "global_active",
    "global_with_state",
    "global_gap",
    "incoming_conflict",
    "sar",
    "update_norm",
    "merged_norm",
    "increment_norm",
    "state_norm",
    "displacement",
    "center_mismatch",
    "plain_shift",
    "geo_shift",
    "lambda_share",
    "union_rank",
)


def steps_table(matrices: pd.DataFrame, settings: RunSettings) -> pd.DataFrame:
    """One row a step: the mean over matrices of every signal, undefined ones left out, and ranges of g and α."""
    rows: list[dict[str, Any]] = []
    for step, part in matrices.groupby("step", sort=True):
        row: dict[str, Any] = {
            "step": int(part["step"].iloc[0]),
            "update": part["update"].iloc[0],
            "eta": settings.continual.step_eta(int(part["step"].iloc[0])),
            "matrices": int((part["active"] > 0).sum()),
        }
        for column in AVERAGED:
            row[column] = _mean(part[column])
        for column in ("conflict", "alpha"):
            row[f"{column}_min"] = float(part[column].min())
            row[f"{column}_max"] = float(part[column].max())
        rows.append(row)
        del step
    return pd.DataFrame(rows)


def _mean(values: pd.Series) -> float:
    defined = [float(value) for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else float("nan")
