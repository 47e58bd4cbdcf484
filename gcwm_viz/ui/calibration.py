"""What a calibration chose, what it saw and what it brings, or the command that computes one."""

import pandas as pd
import streamlit as st

from gcwm_viz.calibration.result import FOLDER, STOPS, read_fitted
from gcwm_viz.figures import calibration_curve, coefficients, task_scores
from gcwm_viz.figures.about import About
from gcwm_viz.figures.theme import margin, num
from gcwm_viz.probes.metrics import METRICS, UNITS, offered, rows_of_metric
from gcwm_viz.runs.tables import Run
from gcwm_viz.statistics.means import error_over_tasks
from gcwm_viz.ui import charts
from gcwm_viz.ui.scoring import choose_measure

SCORES = About(
    title="Scores of the merged and the calibrated model",
    line="The same examples answered by both, with 95 % intervals over the examples. The calibration saw development "
    "probes, so only the test split says what it is worth.",
)


def show(run: Run) -> None:
    """The calibration of a run."""
    table = run.tables["calibration"]
    if table.empty:
        st.markdown(
            "Calibration fits on development probes how much of the merged state and of each update every matrix "
            "takes. This run has none yet; this command computes it:"
        )
        st.code(f"gcwm-viz calibrate {run.path}", language="sh", wrap_lines=True)
        return
    _summary(run)
    charts.show(coefficients.coefficients(table), coefficients.ABOUT, table, key="coefficients")
    curve = run.tables["calibration_curve"]
    charts.show(calibration_curve.calibration_curve(curve), calibration_curve.ABOUT, curve, key="calibration-curve")
    _scores(run)


def _summary(run: Run) -> None:
    fitted = read_fitted(run.path / FOLDER)
    probes = fitted.get("probes", {})
    counts = {kind: sum(task[kind] for task in probes.values()) for kind in ("fitted", "held_out")}
    seen = f"{num(counts['fitted'])} of them fitted, {num(counts['held_out'])} held out" if probes else "a part of them"
    entropy = " without their answers" if "without answers" in fitted.get("sees", "") else ""
    st.info(
        f"The calibrated model saw development probes{entropy} ({seen}); plain merges saw none. Its scores on the "
        "development split are therefore too good, those on test are not."
    )
    if fitted:
        st.caption(
            f"{num(fitted['coefficients'])} coefficients, kept after {num(fitted['best_pass'])} passes; the fit ended "
            f"because {STOPS.get(fitted['stop'], 'of an unknown reason')}."
        )


def _scores(run: Run) -> None:
    table = run.tables["calibration_scores"]
    splits = [split for split in ("test", "dev") if split in set(table["split"])]
    if not splits:
        return
    split, metric = choose_measure("Split", splits, offered(table), splits[0], key="calibration")
    part = rows_of_metric(table[table["split"] == split], metric).set_index("task")
    columns = ["value", "se", "merged_value", "merged_se", "difference", "difference_se", "n"]
    part = part[columns].astype(float)
    boxes = st.columns(3)
    better = "higher is better" if METRICS[metric] else "lower is better"
    boxes[0].metric("Merged", num(part["merged_value"].mean()), help=f"Mean {UNITS[metric]} over tasks; {better}")
    boxes[1].metric("Calibrated", num(part["value"].mean()), help=f"Mean {UNITS[metric]} over tasks; {better}")
    error = error_over_tasks(part["difference_se"])
    boxes[2].metric(
        "Change", f"{num(part['difference'].mean(), signed=True)} {margin(error)}",
        help=f"Mean paired difference over tasks; 95 % over {num(int(part['n'].sum()))} examples",
    )  # fmt: skip
    models: dict[str, tuple[pd.Series, pd.Series]] = {
        "merged": (part["merged_value"], part["merged_se"]),
        "calibrated": (part["value"], part["se"]),
    }
    figure = task_scores.task_scores(models, unit=UNITS[metric], title=SCORES.title)
    charts.show(figure, SCORES, part.reset_index(), key="calibration-scores")
