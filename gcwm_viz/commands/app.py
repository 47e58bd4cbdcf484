"""``app``: the pages in a browser."""

import argparse
import os
import sys
from pathlib import Path

from gcwm_viz.app import SCRIPT
from gcwm_viz.commands.options import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser("app", help="serve the app to this machine alone, until Ctrl-C")
    parser.add_argument("--run-root", type=Path, default=Path("runs"), metavar="DIR", help="folder of runs [runs]")
    parser.add_argument("--port", type=int, default=8501, help="[8501]")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="DIR",
        help="folder or URL that the page Start may read too, beside run root and current folder; repeat for several",
    )
    parser.set_defaults(command=app)


def app(options: argparse.Namespace) -> None:
    """Streamlit takes the place of this process, so that it gets the signals."""
    sys.stdout.flush()
    os.execv(sys.executable, call(options))


def call(options: argparse.Namespace) -> list[str]:
    """The command line of Streamlit."""
    streamlit = [sys.executable, "-m", "streamlit", "run", str(SCRIPT), "--server.port", str(options.port)]
    own = ["--run-root", str(options.run_root)]
    for name in ("allow", "plugin"):
        for value in getattr(options, name, []):
            own += [f"--{name}", value]
    return [*streamlit, "--", *own]
