"""A run as a story, one screen after another, for a talk."""

from gcwm_viz.ui import frame, talk

with frame.frame("Talk", "", bare=True) as view:
    talk.show(view)
