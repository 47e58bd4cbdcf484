"""Where forgetting is: the matrices that made a task worse, and what comes back when they are undone."""

from functools import partial

import streamlit as st

from gcwm_viz.ui import attribution_job, cell_choice, frame, looked, undo, where, where_conflict

with frame.frame(
    "Where", "Which matrices made a task forget, whether conflict is in the same place, and what undoing them brings."
) as view:
    attribution_job.control(view)
    place = looked.choose(view)
    if place is None:
        st.stop()
    where.maps(place, partial(cell_choice.select_from, axes=view.grid))
    undo.show(place)

    st.header("Harm against gain", anchor=False)
    where.harm_against_gain(place, partial(cell_choice.select_from, axes=view.axes))

    st.header("Every task at every step", anchor=False)
    where.over_time(place)

    st.header("Is forgetting where conflict is?", anchor=False)
    where_conflict.same_place(place)

    st.header("On the way", anchor=False)
    where.on_the_way(place)
