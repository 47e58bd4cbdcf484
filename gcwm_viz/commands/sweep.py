"""``sweep``: orders × methods × settings on the same updates, each an ordinary run, and one table of them."""

import argparse

from gcwm_viz.commands.options import (
    DEFAULT_METHOD,
    DEFAULT_PRESET,
    Bars,
    add_engine,
    add_inputs,
    add_resources,
    budget_of,
    engine_of,
    inputs_of,
    run_folder,
)


def add(jobs) -> None:  # type: ignore[no-untyped-def]
    parser = jobs.add_parser("sweep", help="runs over orders, methods and settings that share what they can")
    add_inputs(parser)
    parser.add_argument("--preset", default=DEFAULT_PRESET, help="scale-free (default), paper or release")
    parser.add_argument("--method", default=DEFAULT_METHOD, metavar="A,B,…", help="gcwm (default), see `methods`")
    parser.add_argument("--orders", type=int, default=1, metavar="N", help="the order given, and N − 1 others")
    parser.add_argument(
        "--set", action="append", default=[], dest="settings", metavar="KEY=A,B,…", help="values; repeat for a product"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the orders drawn")
    parser.add_argument("--out", type=run_folder, required=True, metavar="DIR", help="goes on with what is there")
    add_resources(parser)
    add_engine(parser)
    parser.set_defaults(job=sweep)


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
