"""``leave-one-out``: what each update of a run does to the others."""

import argparse
from pathlib import Path

from gcwm_viz.commands.options import Bars, add_resources


def add(jobs) -> None:  # type: ignore[no-untyped-def]
    parser = jobs.add_parser("leave-one-out", help="merge again without each update and compare the final scores")
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, metavar="DIR", help="[RUN/leave_one_out] resumes what is there")
    parser.add_argument("--keep-runs", action="store_true", help="keep the runs without an update, tensors and all")
    add_resources(parser)
    parser.set_defaults(job=leave_one_out)


def leave_one_out(options: argparse.Namespace) -> None:
    from gcwm_viz.continual.device import pick_device
    from gcwm_viz.probes.metrics import METRICS, UNITS, headline, rows_of_metric
    from gcwm_viz.studies.leave_one_out import leave_one_out as compare

    with Bars() as bars:
        frame = compare(
            options.run,
            options.out,
            device=pick_device(options.device),
            workers=options.workers,
            keep_runs=options.keep_runs,
            progress=bars,
        )
    here = frame[frame["split"] == frame["split"].iloc[-1]]
    metric = headline(here)
    shown = rows_of_metric(here, metric)
    sign = "+" if METRICS[metric] else "-"
    table = shown.pivot(index="left_out", columns="task", values="difference")
    print(f"change of {UNITS[metric]} ({here['split'].iloc[0]} split) without an update; {sign} = better without it")
    print(table.loc[list(dict.fromkeys(shown["left_out"]))].to_string(float_format=lambda value: f"{value:+.3f}"))
