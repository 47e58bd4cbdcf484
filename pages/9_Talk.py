"""A run as a story in five screens, for a talk."""

from gcwm_viz.ui import frame, talk
from gcwm_viz.ui.roots import run_root

view = frame.frame("Talk", "", bare=True)
talk.show(view, run_root())
