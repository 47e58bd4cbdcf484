"""The report of a run as a download."""

from functools import partial
from html import escape

import streamlit as st

from gcwm_viz.errors import InputError
from gcwm_viz.report.document import report
from gcwm_viz.runs.tables import Run


def report_button(run: Run) -> None:
    """A button that writes the report only when it is clicked."""
    st.download_button(
        "Download report (HTML)",
        data=partial(_report, run),
        file_name=f"{run.path.name}.html",
        mime="text/html",
        on_click="ignore",
        icon=":material/description:",
        help="One file with every chart of this run, about 5 MB. It opens without a network.",
    )


def _report(run: Run) -> bytes:
    """The report, or a page that says why the run cannot be read any more: a download shows no other error."""
    try:
        return report(run).encode()
    except (InputError, OSError) as error:
        return f"<!doctype html><meta charset=utf-8><p>No report: {escape(str(error))}</p>".encode()
