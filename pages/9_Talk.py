"""A run as a story in five screens, for a talk."""

from gcwm_viz.ui import frame, talk
from gcwm_viz.ui.roots import run_root

with frame.frame("Talk", "", bare=True) as view:
    talk.show(view, run_root())
