"""The app as Streamlit runs it: ``app.py``, the landing page, and ``pages``, a script each, with their configuration.

A checkout has files of the same names at its top, as ``streamlit run app.py`` looks for them there.
"""

import runpy
from pathlib import Path

FOLDER = Path(__file__).parent
SCRIPT = FOLDER / "app.py"
"""What ``streamlit run`` takes."""


def run_page(file: str) -> None:
    """Run the script of the app that has the place of ``file``: ``app.py``, or ``pages/NAME`` by its name."""
    name = Path(file).name
    runpy.run_path(str(SCRIPT if name == SCRIPT.name else FOLDER / "pages" / name), run_name="__main__")
