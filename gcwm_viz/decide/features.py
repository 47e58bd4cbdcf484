"""Features of a plan and a task, from which a linear model forecasts the change of the task's score from the base.

All of them are 0 for the base. A task's *carrier* in a plan is the update that brings its score: by the scores of the
updates alone where those are known (``labels``), else the one that claims it. Everything else in the plan acts on it.

Shape suffixes: p = plans, t = updates, k = tasks, f = features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np

from gcwm_viz.decide.knowledge import STRENGTHS, Array, Knowledge

Needs = Literal["updates", "prompts", "labels"]
NEEDS: tuple[Needs, ...] = get_args(Needs)
"""What a forecast uses: the updates alone; prompts of every task too; and answers, for scores of base and experts."""
SCALES: Mapping[str, float] = {"interference": 1e-3, "one_sided": 0.05, "kl": 0.5, "norm": 0.05}
"""Where a feature begins to saturate, as log(1 + x/scale): about the median over pairs of the lab's good updates."""


def features(known: Knowledge, plans_pt: Array, needs: Needs) -> tuple[list[str], Array]:
    """Names, and (p, k, f) values. ``plans_pt``: the strength of every update in every plan, 0 = left out."""
    acting = _Acting(known, plans_pt, labelled=needs == "labels")
    values = _with_scores(acting) if needs == "labels" else _without_scores(acting, prompts=needs == "prompts")
    return list(values), np.stack(list(values.values()), axis=-1)


class _Acting:
    """Every task's carrier in every plan, and what the others of the plan do to it; all (p, k)."""

    def __init__(self, known: Knowledge, plans_pt: Array, *, labelled: bool) -> None:
        self.known, self.plans_pt = known, plans_pt
        self.norms = np.nan_to_num(known.relative_norm)
        carrier_pk, self.gain = _carriers(known, plans_pt, labelled=labelled)
        self.carried = carrier_pk >= 0
        self.place = np.maximum(carrier_pk, 0)
        self.strength = np.where(self.carried, np.take_along_axis(plans_pt, self.place, axis=1), 0.0)
        self.is_other = np.arange(plans_pt.shape[1]) != carrier_pk[..., None]  # (p, k, t)
        self.others = np.where(self.is_other, plans_pt[:, None, :], 0.0)
        self.count = np.log1p((self.others > 0).sum(-1))

    def pairs(self, table: str) -> Array:
        """log of Σ_j s_j² T[carrier, j] over the others; 0 without a carrier."""
        return _log(np.where(self.carried, self._acts(table).sum(-1), 0.0), table)

    def worst(self, table: str) -> Array:
        """The same of the largest s_j² T[carrier, j] alone."""
        return _log(np.where(self.carried, self._acts(table).max(-1), 0.0), table)

    def _acts(self, table: str) -> Array:
        acts: Array = np.nan_to_num(self.known.pairs[table])[self.place] * self.others**2
        return acts

    def along(self) -> Array:
        """Σ_j ⟨s_jΔ_j, Δ_c⟩ / (s_c ‖Δ_c‖²), squeezed into [-1, 1]: how much of the carrier the others repeat."""
        inner = np.nan_to_num(self.known.pairs["alignment"])[self.place] * self.norms
        own = self.norms[self.place][..., None]  # 0 of an update that changes nothing
        each = np.divide(inner, own, out=np.zeros_like(inner), where=own > 0)
        share = (each * self.others).sum(-1) / np.where(self.carried, self.strength, 1.0)
        return np.tanh(np.where(self.carried, share, 0.0))

    def divergence(self) -> Array:
        """log of Σ_j s_j² KL_j on the prompts of each task, over the others."""
        return _log((self.others**2 * np.nan_to_num(self.known.kl).T).sum(-1), "kl")

    def crowd(self) -> Array:
        """log of the norm of all others together, over the base's."""
        return _log((self.others**2 * self.norms**2).sum(-1) ** 0.5, "norm")

    def of_carrier(self, values_t: Array) -> Array:
        return np.where(self.carried, np.nan_to_num(values_t)[self.place], 0.0)


def _with_scores(acting: _Acting) -> dict[str, Array]:
    gain, base = acting.gain, np.nan_to_num(acting.known.base)
    alone = _alone(acting.known, acting.plans_pt).transpose(0, 2, 1)
    moved = np.where(acting.is_other, alone, 0.0)
    divergence = acting.divergence()
    return {
        "gain": gain,
        "gain × interference": gain * acting.pairs("interference"),
        "gain × input side": gain * acting.pairs("one_sided"),
        "gain × worst interference": gain * acting.worst("interference"),
        "gain × worst input side": gain * acting.worst("one_sided"),
        "gain × along": gain * acting.along(),
        "gain × others": gain * acting.count,
        "gain × KL of others": gain * divergence,
        "base × KL of others": base * divergence,
        "others gain": moved.clip(0.0).sum(-1),
        "others lose": moved.clip(None, 0.0).sum(-1),
        "worst other": moved.min(-1).clip(None, 0.0),
        "sum of all, within 0 and 1": (base + gain + moved.sum(-1)).clip(0.0, 1.0) - base,
    }


def _without_scores(acting: _Acting, *, prompts: bool) -> dict[str, Array]:
    own, crowd = np.minimum(acting.strength, 1.0), acting.crowd()
    values = {
        "own": own,
        "own × interference": own * acting.pairs("interference"),
        "own × input side": own * acting.pairs("one_sided"),
        "own × along": own * acting.along(),
        "own × crowd": own * crowd,
        "own × others": own * acting.count,
        "own × effective rank": own * acting.of_carrier(acting.known.effective_rank),
        "own norm": _log(acting.strength * acting.of_carrier(acting.norms), "norm"),
        "crowd": crowd,
        "others": acting.count,
    }
    if prompts:
        divergence = acting.divergence()
        kl_pk = np.take_along_axis(np.nan_to_num(acting.known.kl).T[None], acting.place[..., None], axis=2)[..., 0]
        values["KL of others"] = divergence
        values["own × KL of others"] = own * divergence
        values["own KL"] = _log(acting.strength**2 * kl_pk, "kl")
    return values


def _log(x: Array, scale: str) -> Array:
    return np.log1p(np.maximum(x, 0.0) / SCALES[scale])


def _carriers(known: Knowledge, plans_pt: Array, *, labelled: bool) -> tuple[Array, Array]:
    """Index of each task's carrier, −1 without one, (p, k); and what it gains alone, 0 without labels."""
    p, k = len(plans_pt), len(known.tasks)
    if labelled:
        gains = _alone(known, plans_pt)
        best = gains.argmax(1)
        gain = np.take_along_axis(gains, best[:, None, :], axis=1)[:, 0]
        return np.where(gain > 0, best, -1), np.maximum(gain, 0.0)
    carrier = np.full((p, k), -1)
    strongest = np.zeros((p, k))
    for t, claim in enumerate(known.claims):
        for at in (at for at, task in enumerate(known.tasks) if task == claim):
            stronger = plans_pt[:, t] > strongest[:, at]
            carrier[stronger, at], strongest[stronger, at] = t, plans_pt[stronger, t]
    return carrier, np.zeros((p, k))


def _alone(known: Knowledge, plans_pt: Array) -> Array:
    """Change (p, t, k) of every task's score by each update alone, at its strength in each plan: linear between the
    strengths that were measured; where only the whole update was, between it and the base."""
    less, whole = STRENGTHS
    change = known.solo - known.base[:, None]
    whole_tk = np.nan_to_num(change[..., 1])
    less_tk = np.where(np.isnan(change[..., 0]), less * whole_tk, change[..., 0])
    s = plans_pt[:, :, None]
    above = less_tk + (s - less) / (whole - less) * (whole_tk - less_tk)
    return np.where(s <= less, s / less * less_tk, above)
