"""The landing page: which run, what happened, where to look.

``streamlit run app.py`` imports this file once, when the server starts, and runs it as a script for the page.
"""

import streamlit as st

from gcwm_viz.ui import lab_job, page, server
from gcwm_viz.ui.roots import run_names, run_root

if __name__ != "__main__":
    server.prepare()
    app = st.App(__file__)
else:
    with page.open_page(
        "Overview", "What happens to a language model when updates are merged into it one after another."
    ) as links:
        names = run_names(run_root())
        computing = lab_job.ensure_lab_run(run_root(), only_run=not names)
        if not names:
            lab_job.wait(run_root())
            st.stop()
        from gcwm_viz.ui import overview  # a second or more at the first page: after the heading and the job's card

        overview.show(names, links, told=computing)
