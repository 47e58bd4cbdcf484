"""``leave-one-out``: what each update of a run does to the others."""

import argparse
from pathlib import Path

from gcwm_viz.commands.options import Commands, add_resources, budget_of, engine_of
from gcwm_viz.commands.work import Bars


def add(commands: Commands) -> None:
    parser = commands.add_parser("leave-one-out", help="merge without each update and compare the final scores")
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, metavar="DIR", help="[RUN/leave_one_out]; goes on where it stopped")
    add_resources(parser, engine=True)
    parser.set_defaults(command=leave_one_out)


def leave_one_out(options: argparse.Namespace) -> None:
    from gcwm_viz.probes.metrics import METRICS, UNITS, headline, rows_of_metric
    from gcwm_viz.studies.leave_one_out import leave_one_out as compare

    with engine_of(options) as engine, Bars() as bars:
        effects = compare(options.run, options.out, on=engine, memory_budget=budget_of(options), progress=bars)
    split = effects["split"].iloc[-1]
    effects = effects[effects["split"] == split]
    metric = headline(effects)
    rows = rows_of_metric(effects, metric)
    sign = "+" if METRICS[metric] else "-"
    table = rows.pivot(index="left_out", columns="task", values="difference")
    print(f"change of {UNITS[metric]} ({split} split) without an update; {sign} = better without it")
    print(table.loc[list(dict.fromkeys(rows["left_out"]))].to_string(float_format=lambda value: f"{value:+.3f}"))
