"""``sweep``: orders × methods × settings on the same updates, each an ordinary run, and one table of them."""

import argparse

from gcwm_viz.commands.options import (
    Commands,
    add_inputs,
    add_resources,
    add_settings,
    budget_of,
    engine_of,
    run_folder,
)
from gcwm_viz.commands.request import inputs_of
from gcwm_viz.commands.work import Bars


def add(commands: Commands) -> None:
    parser = commands.add_parser("sweep", help="runs over orders, methods and settings that share what they can")
    add_inputs(parser)
    add_settings(parser, grid=True)
    parser.add_argument("--orders", type=int, default=1, metavar="N", help="the order given, and N − 1 others")
    parser.add_argument("--seed", type=int, default=0, help="of the orders drawn")
    parser.add_argument("--out", type=run_folder, required=True, metavar="DIR", help="goes on where it stopped")
    add_resources(parser, engine=True)
    parser.set_defaults(command=sweep)


def sweep(options: argparse.Namespace) -> None:
    from gcwm_viz.studies.grid import parse_grid
    from gcwm_viz.studies.sweep import sweep as compare
    from gcwm_viz.studies.sweep import sweep_runs

    inputs = inputs_of(options)
    runs = sweep_runs(
        [name for name, _ in inputs.updates],
        options.method.split(","),
        parse_grid(options.settings),
        options.orders,
        options.preset,
        options.seed,
    )
    with engine_of(options) as engine, Bars() as bars:
        table = compare(inputs, options.out, runs, engine, memory_budget=budget_of(options), progress=bars)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
