"""Generated tables of a calibration: seeded, of plausible shapes, computed by nothing under test."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def make_calibration(matrices: pd.DataFrame, updates: Sequence[str], seed: int = 0) -> dict[str, pd.DataFrame]:
    """The tables ``calibration``, ``calibration_curve`` and ``calibration_scores``, the last without names of tasks
    that no update has. The last update does not change the matrices of layer 1."""
    rng = np.random.default_rng(seed)
    rows = []
    for matrix, layer, family in matrices[["matrix", "layer", "family"]].drop_duplicates().itertuples(index=False):
        for kind, source in (("state", "state"), *(("update", name) for name in updates)):
            absent = layer == 1 and source == updates[-1]
            value = np.nan if absent else float(kind == "state") + rng.normal(0, 0.1)
            reason = "it does not change this matrix" if absent else ""
            rows.append((matrix, layer, family, kind, source, value, not absent, reason))
    columns = ["matrix", "layer", "family", "kind", "source", "value", "fitted", "reason"]
    passes = np.arange(13)
    curve = {"pass": passes, "fitted": 0.3 * 0.9**passes, "held_out": 0.2 + 0.001 * (passes - 7) ** 2}
    scores = []
    for task in updates:
        for split in ("dev", "test"):
            scores.append(("calibrated", task, split, "em", 0.8, 0.02, 0.7, 0.03, 0.1, 0.02, 100))
            scores.append(("calibrated", task, split, "nll", 0.3, 0.05, 0.5, 0.06, -0.2, 0.03, 100))
    names = ["model", "task", "split", "metric", "value", "se", "merged_value", "merged_se", "difference"]
    return {
        "calibration": pd.DataFrame(rows, columns=columns),
        "calibration_curve": pd.DataFrame(curve).assign(kept=passes == 7),
        "calibration_scores": pd.DataFrame(scores, columns=[*names, "difference_se", "n"]),
    }
