"""``tune``: coefficients chosen on the development split, reported on test."""

import argparse
from dataclasses import replace
from pathlib import Path

from gcwm_viz.commands.options import Commands, add_inputs, add_resources, add_settings, budget_of, engine_of
from gcwm_viz.commands.request import choice_of, inputs_of, inputs_of_bundle, single_settings, strengths_of
from gcwm_viz.commands.work import Bars
from gcwm_viz.errors import InputError


def add(commands: Commands) -> None:
    parser = commands.add_parser("tune", help="choose coefficients on the development split, report them on test")
    parser.add_argument("--lab", action="store_true", help="the shipped lab instead of --base, --update and --probes")
    add_inputs(parser, required=False)
    add_settings(parser)
    parser.add_argument(
        "--grid", action="append", required=True, metavar="KEY=A,B,…", help="values to try; repeat for a product"
    )
    parser.add_argument("--metric", help="em, acc, nll, …; by default exact match or accuracy, as the probes have")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="goes on where it stopped")
    add_resources(parser, engine=True)
    parser.set_defaults(command=tune)


def tune(options: argparse.Namespace) -> None:
    from gcwm_viz.experiments.lab.bundle import locate
    from gcwm_viz.studies.grid import parse_grid
    from gcwm_viz.studies.tune import tune as choose

    if options.lab:
        bundle = locate()
        inputs = inputs_of_bundle(bundle, bundle.base)
        precision = options.probe_dtype or inputs.probe_dtype
        inputs = replace(inputs, probe_dtype=precision, strengths=strengths_of(options), choice=choice_of(options))
    elif options.base is None or not options.update:
        raise InputError("tune needs --lab, or --base with at least one --update")
    else:
        inputs = inputs_of(options)
    with engine_of(options) as engine, Bars() as bars:
        table = choose(
            inputs,
            options.out,
            options.method,
            options.preset,
            parse_grid(options.grid),
            metric=options.metric,
            fixed=single_settings(options),
            on=engine,
            memory_budget=budget_of(options),
            progress=bars,
        )
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
