"""The jobs of the page Decide beside leave-one-out: computing predictors, and searching a plan."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gcwm_viz.continual import journal
from gcwm_viz.decide.plans import FOLDER as PLANS
from gcwm_viz.decide.predict import FOLDER
from gcwm_viz.jobs.spec import JobSpec, digest
from gcwm_viz.runs.tables import Run


def forecast_job(run: Path) -> JobSpec:
    """Computes what a forecast reads."""
    return JobSpec(
        name=f"forecast-{digest(str(run))}",
        key="forecast",
        subject="The forecast",
        doing="Computing what each update would do to the others.",
        arguments=["forecast", str(run)],
        folder=run / FOLDER,
    )


def search_job(run: Path, minutes: float) -> JobSpec:
    """Measures the plans of the greatest expected improvement for so many minutes."""
    return JobSpec(
        name=f"plan-{digest(str(run))}",
        key="plan-search",
        subject="The search",
        doing="Merging and scoring the plans that are most worth it, one after another.",
        arguments=["plan", str(run), "--minutes", f"{minutes:g}"],
        folder=run / PLANS,
    )


def cost(run: Run) -> float:
    """Seconds that measuring one plan takes: those of the plans measured so far, else by the merges and scores of the
    run itself, on one core; NaN where neither is known."""
    spent = _between(run.path / PLANS, "start", "plan")
    if spent:
        return float(np.median(spent))
    matrices = run.tables["matrices"].drop_duplicates("matrix")
    scored = _between(run.path, "probe", "probe")
    if not scored:
        return math.nan
    return float(matrices["seconds"].sum(skipna=False)) / run.steps + float(np.median(scored))


def _between(folder: Path, first: str, last: str) -> list[float]:
    """Seconds from each event ``first`` in the journal of ``folder`` to the next event ``last``."""
    spent, begun = list[float](), math.nan
    for entry in journal.entries(folder / "journal.jsonl"):
        if entry["event"] == last and math.isfinite(_time(entry) - begun):
            spent.append(_time(entry) - begun)
            begun = math.nan
        if entry["event"] == first:
            begun = _time(entry)
    return spent


def _time(entry: Mapping[str, Any]) -> float:
    value = entry.get("time")
    return float(value) if isinstance(value, int | float) else math.nan
