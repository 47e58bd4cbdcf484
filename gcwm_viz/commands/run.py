"""``run`` and ``resume``."""

import argparse
from pathlib import Path

from gcwm_viz.commands.options import add_engine, add_inputs, add_resources, add_settings, planned, run_folder, work_on


def add(jobs) -> None:  # type: ignore[no-untyped-def]
    parser = jobs.add_parser("run", help="merge a sequence of updates and describe every step")
    add_inputs(parser, plan=True)
    add_settings(parser)
    add_resources(parser)
    add_engine(parser)
    parser.add_argument("--out", type=run_folder, required=True, metavar="RUN", help="run folder to write")
    parser.set_defaults(job=run)

    parser = jobs.add_parser("resume", help="go on with a run that was interrupted")
    parser.add_argument("run", type=Path, metavar="RUN")
    add_resources(parser)
    add_engine(parser)
    parser.set_defaults(job=resume)


def run(options: argparse.Namespace) -> None:
    from gcwm_viz.runs.run import create_run

    inputs, settings = planned(options)
    work_on(lambda: create_run(inputs, options.out, settings), options)


def resume(options: argparse.Namespace) -> None:
    from gcwm_viz.continual.store import RunStore

    work_on(lambda: RunStore.open(options.run), options)
