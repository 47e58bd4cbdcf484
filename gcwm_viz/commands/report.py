"""``report``: a run as one HTML file that opens anywhere."""

import argparse
from pathlib import Path

from gcwm_viz.commands.options import Commands, check_file


def add(commands: Commands) -> None:
    parser = commands.add_parser("report", help="write a run as one HTML file that opens without a network")
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--html", type=Path, required=True, metavar="FILE")
    parser.set_defaults(command=report)


def report(options: argparse.Namespace) -> None:
    from gcwm_viz.checkpoints.atomic import write_bytes
    from gcwm_viz.report.document import report as written
    from gcwm_viz.runs.tables import open_run

    check_file("--html", options.html)
    document = written(open_run(options.run)).encode()
    write_bytes(options.html, document)
    print(f"wrote {options.html} ({len(document) / 1e6:.1f} MB)")
