"""Sets of updates as a forecast knows them, generated: scores, norms and pair tables of plausible sizes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np

from gcwm_viz.decide.features import Needs, features
from gcwm_viz.decide.forecast import Case, Forecast
from gcwm_viz.decide.knowledge import Array, Knowledge

TASKS = ("sums", "names", "verbs", "roots")


def make_knowledge(
    updates: int = 3, seed: int = 0, *, tasks: int = 3, prompts: bool = True, labels: bool = True
) -> Knowledge:
    """Update t is for task t and gains most there; others move by a few per cent."""
    rng = np.random.default_rng(seed)
    names, own = [f"u{t}" for t in range(updates)], TASKS[:tasks]
    claims = [own[t % tasks] for t in range(updates)]
    base = rng.uniform(0.1, 0.4, tasks)
    solo = base[:, None] + rng.normal(0, 0.03, (updates, tasks, 2))
    for t, claim in enumerate(claims):
        solo[t, own.index(claim)] = base[own.index(claim)] + rng.uniform((0.1, 0.3), (0.25, 0.5))
    square = {
        "interference": rng.uniform(0.1, 4, (updates, updates)) * 1e-3,
        "one_sided": rng.uniform(0.01, 0.2, (updates, updates)),
        "conflict": rng.uniform(0.2, 0.9, (updates, updates)),
    }
    cosines = rng.uniform(-0.3, 0.5, (updates, updates))
    square["alignment"] = (cosines + cosines.T) / 2
    for table in square.values():
        np.fill_diagonal(table, np.nan)
    nothing = np.full((updates, tasks), np.nan)
    return Knowledge(
        updates=tuple(names),
        claims=tuple(claims),
        tasks=own,
        relative_norm=rng.uniform(0.03, 0.1, updates),
        effective_rank=rng.uniform(0.05, 0.4, updates),
        pairs=square,
        kl=rng.uniform(0.1, 2, (updates, tasks)) if prompts else nothing,
        base=base if labels else nothing[0],
        solo=solo.clip(0, 1) if labels else np.full((updates, tasks, 2), np.nan),
        base_loss=rng.uniform(1, 3, tasks) if labels else nothing[0],
        solo_loss=rng.uniform(0.5, 3, (updates, tasks, 2)) if labels else np.full((updates, tasks, 2), np.nan),
        first_order_base=rng.normal(0, 1, (updates, tasks)) if labels else nothing,
    )


def permuted(known: Knowledge, updates: list[int], tasks: list[int]) -> Knowledge:
    """The same in another order of updates and tasks."""
    return replace(
        known,
        updates=tuple(known.updates[t] for t in updates),
        claims=tuple(known.claims[t] for t in updates),
        tasks=tuple(known.tasks[k] for k in tasks),
        relative_norm=known.relative_norm[updates],
        effective_rank=known.effective_rank[updates],
        pairs={name: table[np.ix_(updates, updates)] for name, table in known.pairs.items()},
        kl=known.kl[np.ix_(updates, tasks)],
        base=known.base[tasks],
        solo=known.solo[np.ix_(updates, tasks)],
        base_loss=known.base_loss[tasks],
        solo_loss=known.solo_loss[np.ix_(updates, tasks)],
        first_order_base=known.first_order_base[np.ix_(updates, tasks)],
    )


def all_plans(updates: int, strengths: tuple[float, ...] = (0.0, 1.0)) -> Array:
    """(p, t), the base first."""
    return np.array(list(product(strengths, repeat=updates)))


def make_forecast(needs: Needs = "labels", *, each: float = 0.05, joint: float = 0.03, **given: float) -> Forecast:
    """A forecast of the coefficients in ``given``, the others 0, with a range that nothing leaves."""
    names, _ = features(make_knowledge(), all_plans(3), needs)
    coefficients = dict.fromkeys(names, 0.0) | given
    assert len(coefficients) == len(names), given
    wide = dict.fromkeys(names, 100.0)
    low = {name: -value for name, value in wide.items()}
    return Forecast("wudi", needs, coefficients, low, wide, 1.0, each, joint, 1.0, 0.02)


def make_case(group: int, needs: Needs, coefficients: dict[str, float], noise: float = 0.0, *, seed: int = 0) -> Case:
    """All subsets of three updates whose truth is linear in the features, with noise in every score."""
    known, plans = make_knowledge(seed=1000 * seed + group), all_plans(3)
    names, values = features(known, plans, needs)
    change = values @ np.array([coefficients.get(name, 0.0) for name in names])
    error = np.random.default_rng(10_000 * seed + group).normal(0, noise, change.shape)
    error[0] = 0.0  # the base is what scores are compared with
    return Case(known, plans, change + error, group)
