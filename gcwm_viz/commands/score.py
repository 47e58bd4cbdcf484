"""``score``: probes for a run that is merged already."""

import argparse
from pathlib import Path

from gcwm_viz.commands.options import Commands, add_probe_dtype, add_resources, budget_of, engine_of, probe_folder
from gcwm_viz.commands.work import Bars


def add(commands: Commands) -> None:
    parser = commands.add_parser("score", help="score a merged run by probes; nothing is merged again")
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--probes", type=probe_folder, metavar="DIR", help="[the run's own]; goes on where it stopped")
    add_probe_dtype(parser, "the run's own")
    parser.add_argument(
        "--replace",
        action="store_true",
        help="delete the scores that are there, with leave-one-out, attribution, forecast and plans",
    )
    add_resources(parser, engine=True)
    parser.set_defaults(command=score)


def score(options: argparse.Namespace) -> None:
    from gcwm_viz.studies.score import score as scored

    with engine_of(options) as engine, Bars() as bars:
        store = scored(
            options.run,
            engine,
            options.probes,
            options.probe_dtype,
            replace=options.replace,
            memory_budget=budget_of(options),
            progress=bars,
        )
    print(f"run {store.path}: scored; look at it with: gcwm-viz show {store.path}")
