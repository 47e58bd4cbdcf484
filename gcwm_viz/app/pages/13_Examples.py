"""Which probe examples every step lost, learned and regained, and how each model answers one of them."""

import streamlit as st

from gcwm_viz.figures import flips
from gcwm_viz.ui import charts, examples, frame, one_example, readings
from gcwm_viz.ui.text import as_markdown

with frame.frame(
    "Examples", "Which probe examples a step forgot, learned or regained, and how the model answers each after it."
) as view:
    found = examples.choose(view.run)
    left, right = st.columns([5, 2], gap="medium")
    with left:
        row = examples.choose_example(view, found)
    with right:
        counts = examples.counts(found)
        figure = flips.flips(counts, view.run.updates, chosen_step=view.step)
        note = as_markdown(readings.flipped(counts, view.run.updates), 300)
        charts.show(figure, flips.ABOUT, counts, key="flips", note=note)
    if row is not None:
        one_example.show(view, found, row)
