"""``export``: the merged model of one step as a checkpoint."""

import argparse
from pathlib import Path


def add(jobs) -> None:  # type: ignore[no-untyped-def]
    parser = jobs.add_parser("export", help="write the merged model of one step as a checkpoint")
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--step", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="default: as in the base")
    parser.set_defaults(job=export)


def export(options: argparse.Namespace) -> None:
    import torch

    from gcwm_viz.continual.store import RunStore
    from gcwm_viz.runs import export_step

    dtype = getattr(torch, options.dtype) if options.dtype else None
    export_step(RunStore.open(options.run), options.step, options.out, dtype)
    print(f"wrote {options.out}")
