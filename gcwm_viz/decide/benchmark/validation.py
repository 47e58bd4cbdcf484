"""How well each predictor foretells what an update does to a merge: rank correlation and AUC over pools.

The unit is an update in its pool; the truth is what the mean score over tasks loses by it, on the test split, when all
others are merged whole. One row a predictor and method; intervals resample seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gcwm_viz.decide.benchmark.cases import HARM, PoolCase
from gcwm_viz.signals.predictors import PREDICTORS
from gcwm_viz.statistics.association import weighted_partial, weighted_spearman
from gcwm_viz.statistics.resampling import multiplicities, percentile_interval

Array = NDArray[np.float64]
RESAMPLES = 1000
SIGNS: Mapping[str, float] = {"alignment": 1.0, "conflict": 1.0, "solo": -1.0}
"""Which way each predictor is read, fixed before anything was measured: +1, the default, higher = more harm."""


def units(cases: Sequence[PoolCase], tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row an update of a pool: seed, pool, regime, kind, update; loss, what the mean score loses by it; and every
    predictor as one number: of pairs the mean over the others that it acts on, of tasks the mean over other tasks."""
    by_seed = {
        seed: {name: t[t["seed"] == seed] for name, t in tables.items() if name in _READ}
        for seed in {case.seed for case in cases}
    }
    rows = []
    for case in cases:
        own = by_seed[case.seed]
        of_updates = own["updates"].set_index("update")
        pairs = own["pairs"].set_index(["i", "j"])
        effects = own["effects"].set_index(["update", "task"])
        names = case.known.updates
        for j, name in enumerate(names):
            acts = pairs.loc[[(other, name) for other in names if other != name]]
            others = [task for task in case.known.tasks if task != case.known.claims[j]]
            felt = effects.loc[[(name, task) for task in others]]
            row = {"seed": case.seed, "pool": case.pool, "regime": case.regime, "update": name, "kind": case.kinds[j]}
            row["scale"] = case.scale
            row["loss"] = -case.marginal(j)
            for column, predictor in PREDICTORS.items():
                if predictor.between == "pair":
                    row[column] = float(acts[column].mean())
                elif column == "base_loss":
                    row[column] = float(case.known.base_loss[case.known.tasks.index(case.known.claims[j])])
                elif predictor.between == "update":
                    row[column] = float(of_updates[column][name])
                elif column == "solo":
                    row[column] = float((case.known.solo[j, :, 1] - case.known.base).mean())
                else:
                    row[column] = float(felt[column].mean())
            rows.append(row)
    return pd.DataFrame(rows).dropna(subset=["loss"])


_READ = ("updates", "pairs", "effects")


def validate(table: pd.DataFrame, columns: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """Of each column of :func:`units` (or a forecast beside them): rho, Spearman's ρ with the loss, and its interval;
    partial, the same given the update's norm; auc, for losses over :data:`~gcwm_viz.decide.benchmark.cases.HARM`, in
    [0, 1], 0.5 = chance; n. Higher = the predictor foretells harm, after :data:`SIGNS`."""
    rows = []
    for column in columns:
        known = table.dropna(subset=[column])
        x, y, norm = (known[name].to_numpy(float) for name in (column, "loss", "relative_norm"))
        x = x * SIGNS.get(column, 1.0)
        row: dict[str, float | str] = {"predictor": column, "n": len(known), "harmful": int((y > HARM).sum())}
        cluster_n = known.groupby(clusters(known)).ngroup().to_numpy()
        if len(known) > 2 and np.ptp(x) > 0:
            rng = np.random.default_rng(seed)
            weights = multiplicities(int(cluster_n.max()) + 1, RESAMPLES, rng)[cluster_n]
            ones = np.ones((len(known), 1))
            row["rho"] = float(weighted_spearman(x, y, ones)[0])
            row["rho_low"], row["rho_high"] = _interval(weighted_spearman(x, y, weights))
            if column != "relative_norm":
                row["partial"] = float(weighted_partial(x, y, norm, ones)[0])
            row["auc"], row["auc_low"], row["auc_high"] = auc(x, y > HARM, weights)
        rows.append(row)
    return pd.DataFrame(rows)


def clusters(table: pd.DataFrame) -> str:
    """What intervals resample: seeds; of a single one its pools."""
    return "pool" if table["seed"].nunique() == 1 and "pool" in table else "seed"


def auc(x_n: Array, harm_n: NDArray[np.bool_], weights_nb: Array) -> tuple[float, float, float]:
    """Area under the ROC curve and its percentile interval; NaN where all are alike."""
    if harm_n.all() or not harm_n.any():
        return float("nan"), float("nan"), float("nan")
    above = (np.sign(x_n[harm_n, None] - x_n[~harm_n]) + 1) / 2  # a harmful one against a harmless one; ½ where alike

    def areas(weights_nb: Array) -> Array:
        harmful, harmless = weights_nb[harm_n], weights_nb[~harm_n]
        both = harmful.sum(0) * harmless.sum(0)
        found: Array = (harmful * (above @ harmless)).sum(0)[both > 0] / both[both > 0]
        return found

    low, high = _interval(areas(weights_nb))
    return float(areas(np.ones((len(x_n), 1)))[0]), low, high


def _interval(values_b: Array) -> tuple[float, float]:
    defined = values_b[np.isfinite(values_b)]
    return percentile_interval(defined) if len(defined) else (float("nan"), float("nan"))
