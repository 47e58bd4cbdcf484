"""One step of one matrix as rows of the tables; ``runs/tables.py`` documents the columns."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from gcwm_viz.geometry.layer import cross_norms
from gcwm_viz.merging.merge import ABSENT, TRAINED
from gcwm_viz.merging.solvers import Solution
from gcwm_viz.signals import catalogue
from gcwm_viz.signals.step import Step

NAN = float("nan")
STATE = "state"
Row = dict[str, Any]


def step_rows(step: Step) -> dict[str, list[Row]]:
    """The rows of one step by table."""
    where = {"step": step.number, "matrix": step.key.name, "layer": step.key.layer, "family": step.key.family}
    return {name: [where | row for row in rows(step)] for name, rows in _TABLES.items()}


def _matrix_rows(step: Step) -> list[Row]:
    """Signals, solver and barycenter; NaN where the method has none."""
    center = step.geometry.barycenter
    solutions = _solutions(step)
    mode = TRAINED if step.merge is None else step.merge.mode
    row: Row = {
        "update": step.arriving.name,
        "d_out": step.key.shape[0],
        "d_in": step.key.shape[1],
        "active": len(step.active),
        "mode": ABSENT if step.geometry.metric is None else mode,
    }
    row |= catalogue.values_of(step)
    row |= {
        "lam": step.geometry.lam,
        "barycenter_iterations": center.iterations if center else 0,
        "barycenter_residual": center.residual if center else NAN,
        "barycenter_converged": center.converged if center else True,
    }
    for branch in ("plain", "geo"):
        solution = solutions.get(branch)
        row[f"{branch}_objective"] = NAN if solution is None else _objective(solution)
        row[f"{branch}_minimum"] = NAN if solution is None else solution.minimum
    row |= {
        "solver_iterations": max((solution.iterations for solution in solutions.values()), default=0),
        "solver_residual": max((solution.residual for solution in solutions.values()), default=NAN),
        "solver_converged": all(solution.converged for solution in solutions.values()),
        "reason": _reason(step),
    }
    return [row]


def _solutions(step: Step) -> dict[str, Solution]:
    """Solutions of the inner solver by branch; empty where there was nothing to solve."""
    branches = {} if step.own_merge is None else step.own_merge.branches
    return {name: branch.solution for name, branch in branches.items() if branch.solution is not None}


def _objective(solution: Solution) -> float:
    """Final objective over that of the plain sum; NaN where the latter is zero."""
    start, end = solution.path[0][1], solution.path[-1][1]
    return end / start if start > 0 else NAN


def _reason(step: Step) -> str:
    """Why values of a step are undefined, or empty."""
    reasons = [step.geometry.reason] if step.geometry.reason else []
    if step.number == 1:
        reasons.append("no state before the first step, so no incoming conflict")
    elif step.arriving.delta is None:
        reasons.append(f"update {step.arriving.name} does not touch this matrix, so no incoming conflict")
    return "; ".join(reasons)


def _pair_rows(step: Step) -> list[Row]:
    """Pairs of active updates, each with the state, and the arriving one with S_{t−1}."""
    rows, state, sar = [], step.state, step.sar
    for i, first in enumerate(step.active):
        rows += [
            _pair("active", first.name, second.name, float(state.active_mm[i, j]))
            | {
                "gate_conflict": float(step.geometry.pairwise_conflict[i, j]),
                "sar_ij": float(sar[i, j]),
                "sar_ji": float(sar[j, i]),
                "principal_angles": step.angles.between(first.gate, second.gate),
            }
            for j, second in enumerate(step.active)
            if j > i
        ]
    missing = "" if step.subspace is not None else "the state is exactly zero in this matrix"
    for i, member in enumerate(step.active):
        row = _pair(STATE, member.name, STATE, float(state.state_m[i]), missing)
        if step.subspace is not None and member.delta is not None:
            sar_22 = cross_norms([member.delta, step.after], [member.analysis, step.subspace])
            row |= {"sar_ij": float(sar_22[0, 1]), "sar_ji": float(sar_22[1, 0])}
        rows.append(row)
    if not math.isnan(step.incoming):
        rows.append(_pair("incoming", step.arriving.name, STATE, step.incoming))
    return rows


def _pair(kind: str, i: str, j: str, conflict: float, reason: str = "") -> Row:
    return {
        "kind": kind,
        "i": i,
        "j": j,
        "conflict": conflict,
        "gate_conflict": NAN,
        "sar_ij": NAN,
        "sar_ji": NAN,
        "principal_angles": [],
        "reason": reason,
    }


def _spectrum_rows(step: Step) -> list[Row]:
    """Updates, mean, barycenter and state."""
    geometry = step.geometry
    rows: list[Row] = []

    def add(source: str, kind: str, eigenvalues: Tensor) -> None:
        rows.append(
            {
                "source": source,
                "kind": kind,
                "eigenvalues": [float(value) for value in eigenvalues],
                "union_rank": geometry.union_rank,
                "lam": geometry.lam,
            }
        )

    for member, spectrum, rank in zip(step.active, geometry.spectra, geometry.retained_ranks, strict=True):
        add(member.name, "update", spectrum[:rank])  # the rest of the union basis is λ
    if geometry.metric is not None:
        add("mean", "mean", geometry.mean_spectrum)
        if geometry.barycenter is not None:
            add("barycenter", "barycenter", geometry.metric_spectrum)
    if step.subspace is not None:
        add(STATE, STATE, step.subspace.energies_r)
    return rows


def _barycenter_rows(step: Step) -> list[Row]:
    """The residual of every iteration."""
    center = step.geometry.barycenter
    if center is None:
        return []
    first = center.iterations + 1 - len(center.residuals)  # not every method lists the residual at the start
    return [{"iteration": first + at, "residual": residual} for at, residual in enumerate(center.residuals)]


def _solver_rows(step: Step) -> list[Row]:
    """The objective along the iterations of each branch."""
    return [
        {
            "branch": branch,
            "iteration": iteration,
            "objective": objective,
            "shift": shift,
            "relative_shift": shift / solution.start_norm if solution.start_norm > 0 else NAN,
        }
        for branch, solution in _solutions(step).items()
        for iteration, objective, shift in solution.path
    ]


_TABLES: dict[str, Callable[[Step], Sequence[Row]]] = {
    "matrices": _matrix_rows,
    "pairs": _pair_rows,
    "spectra": _spectrum_rows,
    "barycenter": _barycenter_rows,
    "solver": _solver_rows,
}
TABLES = tuple(_TABLES)
