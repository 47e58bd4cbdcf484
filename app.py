"""The landing page of the package, where ``streamlit run app.py`` and the owner of a checkout look for it."""

import streamlit as st

from gcwm_viz.app import run_page
from gcwm_viz.ui import server

if __name__ != "__main__":
    server.prepare()
    app = st.App(__file__)
else:
    run_page(__file__)
