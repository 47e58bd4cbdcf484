"""The page Try: choices on the left, their scores on the right, what was tried below."""

import streamlit as st

from gcwm_viz.decide.variant import Variant
from gcwm_viz.decide.variants import check_variable
from gcwm_viz.errors import InputError
from gcwm_viz.probes.metrics import offered
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui import variant_choice, variant_scores, variant_table
from gcwm_viz.ui.scoring import choose_measure
from gcwm_viz.ui.variant_scores import Values
from gcwm_viz.ui.variant_trail import current, trail_of


def show(run: Run) -> None:
    """Everything under the heading; ends the page where the run has no variants."""
    try:
        check_variable(run.store)
    except InputError as error:
        st.info("This run cannot be merged differently here.")
        st.text(str(error))
        st.stop()
    variant = current(run)
    left, right = st.columns([2, 3], gap="large")
    with left:
        variant_choice.show(run, variant)
    with right:
        split, metric = _scores(run, variant)
    st.header("What you tried", anchor=False)
    variant_table.history(run, metric, split)
    _plan(run, variant)
    variant_scores.work_ahead(run, variant)


def _scores(run: Run, variant: Variant) -> tuple[str, str]:
    """Of the split and metric that two controls choose, which are returned."""
    table = run.tables["scores"]
    splits = [split for split in ("dev", "test") if split in set(table["split"])]
    split, metric = choose_measure("Split", splits, offered(table), splits[0], key="try", widths=(2, 3))
    bar, picture = st.empty(), st.empty()

    def draw_partly(values: Values) -> None:
        figure = variant_table.figure(variant_table.compare(run, split, metric, values), metric)
        picture.plotly_chart(figure, key=f"try-partly-{len(values)}")  # a key can be drawn once

    values = variant_scores.values_of(run, variant, split, bar, draw_partly)
    with picture.container():
        same = trail_of(run).seconds(split) == 0
        variant_table.show(variant_table.compare(run, split, metric, values), metric, same=same)
        _caution(run, split)
    return split, metric


def _caution(run: Run, split: str) -> None:
    if split == "dev":
        st.caption(
            "You choose by these examples, so the best of many tries looks better here than it is. The test split, "
            "on a press, says what one is worth."
        )
        return
    tried = sum(own == "test" and seconds > 0 for (_, own), (_, seconds) in trail_of(run).scored.items())
    st.caption(
        "A score here counts for a choice that was made before it was seen. "
        f"Tries scored on the test split in this session: {tried}."
    )


def _plan(run: Run, variant: Variant) -> None:
    """The variant as a file that ``run`` takes."""
    text = variant.plan(run.store)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button("Download as plan", text, "plan.yaml", "application/yaml", on_click="ignore")
        st.caption("Run it with `gcwm-viz run --plan plan.yaml --out RUN`")
    if variant.calibrated:
        st.caption(
            "A plan cannot hold calibrated coefficients: it merges what you chose without them, and the command "
            "`calibrate` fits the new run's own."
        )
    with st.expander("The plan as YAML"):
        st.code(text, language="yaml")
