"""``attribute``: which matrices changed the loss of each task."""

import argparse
from pathlib import Path

from gcwm_viz.commands.options import Commands, add_resources, budget_of, engine_of
from gcwm_viz.commands.work import Bars


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "attribute", help="split every task's change of loss over the matrices that changed, completely"
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run; goes on where it stopped")
    parser.add_argument(
        "--from", type=int, dest="start", metavar="STEP", help="state where the path begins, 0 = the base [--to - 1]"
    )
    parser.add_argument(
        "--to", type=int, dest="step", metavar="STEP", help="state where it ends [every step, and base to the last]"
    )
    parser.add_argument("--tasks", metavar="A,B,…", help="[all with prompts, choices or texts]")
    parser.add_argument("--split", choices=("dev", "test"), default="dev", help="[dev]")
    parser.add_argument("--examples", type=int, metavar="N", help="the first N of every task [all]")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="precision of matrix products [float32]"
    )
    parser.add_argument(
        "--no-interpolation", action="store_true", help="without scores along the paths, which the page draws"
    )
    add_resources(parser, engine=True)
    parser.set_defaults(command=attribute)


def attribute(options: argparse.Namespace) -> None:
    from gcwm_viz.attribution.attribute import attribute as attributed

    with engine_of(options) as engine, Bars() as bars:
        table = attributed(
            options.run,
            start=options.start,
            step=options.step,
            tasks=options.tasks.split(",") if options.tasks else None,
            split=options.split,
            examples=options.examples,
            precision=options.dtype,
            interpolate=not options.no_interpolation,
            on=engine,
            memory_budget=budget_of(options),
            progress=bars,
        )
    table = table[table["split"] == options.split]
    paths = table.drop_duplicates(["start", "step", "task"])
    worst = table.loc[table.groupby(["start", "step", "task"])["value"].idxmax()]
    shown = paths[["start", "step", "task", "change", "residual", "nodes"]].merge(
        worst[["start", "step", "task", "matrix", "value"]], on=["start", "step", "task"]
    )
    print(f"change of loss in nats per token ({options.split} split) and the matrix that raised it most; + = worse")
    signed = dict.fromkeys(("change", "value"), lambda value: f"{value:+.4f}")
    print(shown.to_string(index=False, formatters=signed, float_format=lambda value: f"{value:.4f}"))
    open_ones = int((~paths["converged"]).sum())
    if open_ones:
        print(f"note: {open_ones} of {len(paths)} residuals are above 2 % of the change and 0.001 nats")
