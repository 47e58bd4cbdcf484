"""``tune``: coefficients chosen on the development split, reported on test."""

import argparse
from pathlib import Path

from gcwm_viz.commands.options import Bars, add_inputs, add_resources, add_settings, inputs_of
from gcwm_viz.errors import InputError


def add(jobs) -> None:  # type: ignore[no-untyped-def]
    parser = jobs.add_parser("tune", help="choose coefficients on the development split, report them on test")
    parser.add_argument("--lab", action="store_true", help="the shipped lab instead of --base, --update and --probes")
    add_inputs(parser)
    add_settings(parser)
    parser.add_argument(
        "--grid", action="append", required=True, metavar="KEY=A,B,…", help="values to try; repeat for a product"
    )
    parser.add_argument("--metric", help="em, acc, nll, …; by default exact match or accuracy, as the probes have")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="runs and table; resumes what is there")
    add_resources(parser)
    parser.set_defaults(job=tune)
    for action in parser._actions:
        if action.dest in ("base", "update"):
            action.required = False


def tune(options: argparse.Namespace) -> None:
    from gcwm_viz.continual.config import parse_setting
    from gcwm_viz.continual.device import pick_device
    from gcwm_viz.continual.run_file import PROBE_DTYPES
    from gcwm_viz.experiments.lab.bundle import locate
    from gcwm_viz.runs.inputs import Inputs
    from gcwm_viz.studies.grid import parse_grid
    from gcwm_viz.studies.tune import tune as choose

    if options.lab:
        bundle = locate()
        inputs = Inputs(
            base=bundle.base,
            updates=list(bundle.updates.items()),
            probes=bundle.probes,
            probe_dtype=options.probe_dtype or PROBE_DTYPES[0],
        )
    elif options.base is None or not options.update:
        raise InputError("tune needs --lab, or --base with at least one --update")
    else:
        inputs = inputs_of(options)
    with Bars() as bars:
        table = choose(
            inputs,
            options.out,
            options.method,
            options.preset,
            parse_grid(options.grid),
            metric=options.metric,
            fixed=dict(parse_setting(text) for text in options.settings),
            device=pick_device(options.device),
            workers=options.workers,
            progress=bars,
        )
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
