"""The page Start of the package."""

from gcwm_viz.app import run_page

run_page(__file__)
