"""``python cold.py APP ROOT RUN``: every page of the app as the first that a server runs, each in a process forked
before any module of ours is imported.

Prints what went wrong as JSON, by page. The packages that take seconds to load are loaded once, before the forks.
"""

import json
import os
import sys
from pathlib import Path
from unittest.mock import patch

import pandas  # noqa: F401
import plotly.io  # noqa: F401
import pyarrow.parquet  # noqa: F401
import scipy.optimize
import scipy.stats  # noqa: F401
import sklearn.gaussian_process  # noqa: F401
import torch
import transformers  # noqa: F401
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

SELECTED = {"step": "3", "layer": "2", "family": "o_proj"}


def problem(script: Path, page: str, run: str) -> str:
    app = AppTest.from_file(str(script), default_timeout=120)
    for key, value in {"run": run, **SELECTED}.items():
        app.query_params[key] = value
    if page != script.name:
        app.switch_page(page)
    app.run()
    if app.exception:
        return str(app.exception[0].value)
    return "" if app.title else "no title"


def main(app: str, root: str, run: str) -> None:
    script = Path(app)
    assert not [name for name in sys.modules if name.startswith("gcwm_viz")]
    torch.set_num_threads(1)
    sys.argv = [script.name, "--run-root", root]
    components = manifest_scanner.scan_component_manifests()
    # AppTest would look for them in every fork.
    patch.object(manifest_scanner, "scan_component_manifests", return_value=components).start()
    found = {}
    for page in (script.name, *sorted(f"pages/{file.name}" for file in script.parent.glob("pages/*.py"))):
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.write(writing, problem(script, page, run).encode())
            os._exit(0)
        os.close(writing)
        with open(reading, "rb") as answer:
            found[page] = answer.read().decode()
        if os.wait()[1]:
            found[page] = found[page] or "the process ended"
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
