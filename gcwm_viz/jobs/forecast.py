"""The jobs of the page Decide beside leave-one-out: computing predictors, and searching a plan."""

from pathlib import Path

from gcwm_viz.decide.plans import FOLDER as PLANS
from gcwm_viz.decide.predict import FOLDER
from gcwm_viz.jobs.spec import JobSpec, digest


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
        doing="Merging and scoring the plans that are most worth it.",
        arguments=["plan", str(run), "--minutes", f"{minutes:g}"],
        folder=run / PLANS,
    )
