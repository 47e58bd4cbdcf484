"""From the rows of all matrices to the tables of a run."""

import math
from typing import Any

import pandas as pd

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.signals.catalogue import computed


def steps_table(matrices: pd.DataFrame, settings: RunSettings) -> pd.DataFrame:
    """One row per step: the mean over matrices of every signal, undefined ones left out, and ranges of g and α."""
    rows: list[dict[str, Any]] = []
    signals = [signal for signal in computed() if signal.averaged and signal.column in matrices]
    for _, part in matrices.groupby("step", sort=True):
        row: dict[str, Any] = {
            "step": int(part["step"].iloc[0]),
            "update": part["update"].iloc[0],
            "eta": settings.continual.step_eta(int(part["step"].iloc[0])),
            "matrices": int((part["active"] > 0).sum()),
        }
        row |= {signal.column: _mean(part[signal.column]) for signal in signals}
        for signal in signals:
            if signal.extremes:
                row[f"{signal.column}_min"] = float(part[signal.column].min())
                row[f"{signal.column}_max"] = float(part[signal.column].max())
        rows.append(row)
    return pd.DataFrame(rows)


def _mean(values: pd.Series) -> float:
    defined = [float(value) for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else float("nan")
