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
    from gcwm_viz.studies import sweep as sweeping
    from gcwm_viz.studies.tune import parse_grid

    inputs = inputs_of(options)
    points = sweeping.sweep_points(
        [name for name, _ in inputs.updates],
        options.method.split(","),
        parse_grid(options.settings),
        options.orders,
        options.preset,
        options.seed,
    )
    bars = Bars()
    with engine_of(options) as engine:
        try:
            table = sweeping.sweep(inputs, options.out, points, engine, memory_budget=budget_of(options), progress=bars)
        finally:
            bars.close()
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
