"""Features of a plan and a task, from which a linear model forecasts the change of the task's score from the base.

All of them are 0 for the base. A task's *carrier* in a plan is the update that brings its score: by the scores of the
updates alone where those are known (``labels``), else the one that claims it. Everything else in the plan acts on it.

Shape suffixes: p = plans, t = updates, k = tasks, f = features.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gcwm_viz.decide.knowledge import STRENGTHS, Array, Knowledge

NEEDS = ("updates", "prompts", "labels")
"""What a forecast may use; each contains those before it."""
SCALES: Mapping[str, float] = {"interference": 1e-3, "one_sided": 0.05, "kl": 0.5, "loss": 0.5, "norm": 0.05}
"""Where a feature begins to saturate: log(1 + x/scale). About the median over pairs of the lab's good updates."""


def features(known: Knowledge, plans_pt: Array, needs: str) -> tuple[list[str], Array]:
    """Names, and (p, k, f) values. ``plans_pt``: the strength of every update in every plan, 0 = left out."""
    carrier_pk, gain_pk = _carriers(known, plans_pt, labelled=needs == "labels")
    own = carrier_pk >= 0
    strength = np.where(own, np.take_along_axis(plans_pt, np.maximum(carrier_pk, 0), axis=1), 0.0)
    # The others: every update but the carrier, (p, k, t).
    others = np.repeat(plans_pt[:, None, :], len(known.tasks), axis=1)
    index = np.arange(plans_pt.shape[1])
    others = np.where(index[None, None, :] == carrier_pk[..., None], 0.0, others)
    squared = others**2
    values: dict[str, Array] = {}

    def acting(table: str) -> Array:
        """Σ_j s_j² T[carrier, j]; 0 without a carrier."""
        square = np.nan_to_num(known.pairs[table])
        return np.where(own, (square[np.maximum(carrier_pk, 0)] * squared).sum(-1), 0.0)

    interference = _log(acting("interference"), "interference")
    one_sided = _log(acting("one_sided"), "one_sided")
    cosines = np.nan_to_num(known.pairs["alignment"])[np.maximum(carrier_pk, 0)]
    ratio = known.relative_norm[None, None, :] / known.relative_norm[np.maximum(carrier_pk, 0)][..., None]
    along = np.where(own, (cosines * ratio * others).sum(-1) / np.maximum(strength, 1e-9), 0.0)
    crowd = _log((squared * known.relative_norm**2).sum(-1) ** 0.5, "norm")
    size = np.log1p((others > 0).sum(-1) * 1.0)
    if needs == "labels":
        solo = _solo(known, known.solo - known.base[:, None], plans_pt)
        loss = _solo(known, known.solo_loss - known.base_loss[:, None], plans_pt)
        is_other = index[None, None, :] != carrier_pk[..., None]
        moved = np.where(is_other, solo.transpose(0, 2, 1), 0.0)
        worse = np.where(is_other, loss.transpose(0, 2, 1), 0.0).clip(0.0)
        base = known.base[None, :]
        values["gain"] = gain_pk
        values["gain × interference"] = gain_pk * interference
        values["gain × input side"] = gain_pk * one_sided
        values["gain × crowd"] = gain_pk * crowd
        values["gain × along"] = gain_pk * np.tanh(along)
        values["gain × others"] = gain_pk * size
        values["others lose"] = moved.clip(None, 0.0).sum(-1)
        values["worst other"] = moved.min(-1).clip(None, 0.0)
        values["others gain"] = moved.clip(0.0).sum(-1)
        values["others' loss"] = -_log(worse.sum(-1), "loss")
        values["base × others' loss"] = -base * _log(worse.sum(-1), "loss")
        values["base × crowd"] = -base * crowd
        values["gain × others' loss"] = -gain_pk * _log(worse.sum(-1), "loss")
        reached = (base + gain_pk + moved.sum(-1)).clip(0.0, 1.0) - base
        values["additive"] = reached
    else:
        has = np.minimum(strength, 1.0)
        values["own"] = has
        values["own × interference"] = has * interference
        values["own × input side"] = has * one_sided
        values["own × along"] = has * np.tanh(along)
        values["own × crowd"] = has * crowd
        values["own × others"] = has * size
        values["crowd"] = crowd
        values["others"] = size
        values["own norm"] = _log(strength * np.where(own, known.relative_norm[np.maximum(carrier_pk, 0)], 0.0), "norm")
        spread = np.where(own, known.effective_rank[np.maximum(carrier_pk, 0)], 0.0)
        values["own × effective rank"] = has * spread
        if needs == "prompts":
            kl = np.nan_to_num(known.kl).T[None]  # (1, k, t)
            values["others' KL"] = -_log((squared * kl).sum(-1), "kl")
            values["own KL"] = _log(strength**2 * np.where(own, _own(kl, carrier_pk), 0.0), "kl")
            values["own × others' KL"] = -has * _log((squared * kl).sum(-1), "kl")
    return list(values), np.stack(list(values.values()), axis=-1)


def _log(x: Array, scale: str) -> Array:
    return np.log1p(np.maximum(x, 0.0) / SCALES[scale])


def _own(table: Array, carrier_pk: Array) -> Array:
    k = np.arange(carrier_pk.shape[1])[None, :]
    found: Array = table[0][k, np.maximum(carrier_pk, 0)]
    return found


def _carriers(known: Knowledge, plans_pt: Array, *, labelled: bool) -> tuple[Array, Array]:
    """Index of each task's carrier, −1 without one, (p, k); and its gain alone, 0 without labels."""
    p, k = len(plans_pt), len(known.tasks)
    if labelled:
        gains = _solo(known, known.solo - known.base[:, None], plans_pt)  # (p, t, k)
        best = gains.argmax(1)
        gain = np.take_along_axis(gains, best[:, None, :], axis=1)[:, 0]
        return np.where(gain > 0, best, -1), np.maximum(gain, 0.0)
    carrier = np.full((p, k), -1)
    strongest = np.zeros((p, k))
    for t, claim in enumerate(known.claims):
        for at in [at for at, task in enumerate(known.tasks) if task == claim]:
            better = plans_pt[:, t] > strongest[:, at]
            carrier[better, at] = t
            strongest[better, at] = plans_pt[better, t]
    return carrier, np.zeros((p, k))


def _solo(known: Knowledge, change_tks: Array, plans_pt: Array) -> Array:
    """Change (p, t, k) of each task by each update alone at its strength in each plan, linear between the strengths
    that were measured; where only the whole one was, between that and the base."""
    less, whole = STRENGTHS
    whole_tk = np.nan_to_num(change_tks[..., 1])
    less_tk = np.where(np.isnan(change_tks[..., 0]), less * whole_tk, change_tks[..., 0])
    s = plans_pt[:, :, None]
    lower = s / less * less_tk[None]
    upper = less_tk[None] + (s - less) / (whole - less) * (whole_tk - less_tk)[None]
    return np.where(s <= less, lower, upper)
