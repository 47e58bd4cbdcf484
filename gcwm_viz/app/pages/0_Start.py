"""Start a run, watch it, resume it."""

from gcwm_viz.ui import page, start
from gcwm_viz.ui.roots import run_root

with page.open_page("Start", "Choose a base and updates, see what a run would need, and let it work."):
    start.page(run_root())
