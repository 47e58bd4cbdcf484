"""Where forgetting is: the matrices that made a task worse, and what comes back when they are undone."""

from functools import partial

import streamlit as st

from gcwm_viz.ui import frame, undo, where

with frame.frame(
    "Where", "Which matrices made a task forget, whether conflict is in the same place, and what undoing them brings."
) as view:
    where.control(view)
    looked = where.choose(view)
    if looked is None:
        st.stop()
    select = partial(undo.select_from, axes=view.axes)
    where.maps(looked, select)
    undo.show(looked)

    st.header("Harm against gain", anchor=False)
    where.harm_against_gain(looked, select)

    st.header("Every task at every step", anchor=False)
    where.over_time(looked)

    st.header("Is forgetting where conflict is?", anchor=False)
    where.same_place(looked)

    st.header("On the way", anchor=False)
    where.on_the_way(looked)
