"""The landing page of the package, where ``streamlit run app.py`` and the owner of a checkout look for it."""

import streamlit as st

from gcwm_viz.app import run_page
from gcwm_viz.ui.offline import stay_offline

if __name__ != "__main__":
    stay_offline()
    app = st.App(__file__)
else:
    run_page(__file__)
