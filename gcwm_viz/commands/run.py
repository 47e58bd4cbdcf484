"""``run`` and ``resume``."""

import argparse
from pathlib import Path

from gcwm_viz.commands.options import ETA_OF_RUN, Commands, add_plan, add_resources, add_settings, run_folder
from gcwm_viz.commands.request import planned
from gcwm_viz.commands.work import work_on


def add(commands: Commands) -> None:
    parser = commands.add_parser("run", help="merge a sequence of updates and describe every step")
    add_plan(parser)
    add_settings(parser, eta=ETA_OF_RUN)
    add_resources(parser, engine=True)
    parser.add_argument("--out", type=run_folder, required=True, metavar="RUN", help="run folder to write")
    parser.set_defaults(command=run)

    parser = commands.add_parser("resume", help="go on with a run that was interrupted")
    parser.add_argument("run", type=Path, metavar="RUN")
    add_resources(parser, engine=True)
    parser.set_defaults(command=resume)


def run(options: argparse.Namespace) -> None:
    from gcwm_viz.runs.run import create_run

    inputs, settings, choose_eta = planned(options)
    work_on(lambda: create_run(inputs, options.out, settings, choose_eta=choose_eta), options)


def resume(options: argparse.Namespace) -> None:
    from gcwm_viz.continual.store import RunStore

    work_on(lambda: RunStore.open(options.run), options)
