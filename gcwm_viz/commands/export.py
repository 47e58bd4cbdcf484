"""``export``: the merged model of one step as a checkpoint, an adapter or a mergekit configuration; a run's tables."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gcwm_viz.commands.options import Commands
from gcwm_viz.errors import InputError

if TYPE_CHECKING:
    from gcwm_viz.calibration.result import Calibrated
    from gcwm_viz.continual.store import RunStore


def add(commands: Commands) -> None:
    parser = commands.add_parser("export", help="write the merged model of one step as a checkpoint or adapter")
    add_model(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write, for mergekit a file")
    parser.add_argument(
        "--mergekit-yaml", action="store_true", help="a mergekit configuration (task-arithmetic, mean, ties, dare)"
    )
    parser.add_argument("--tables", action="store_true", help="the run's tables as a dataset of the Hugging Face hub")
    parser.set_defaults(command=export)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Which model of a run, and in which form."""
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--step", type=int, help="[the last]")
    parser.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), help="[as in the base; adapter: float32]"
    )
    parser.add_argument("--as-adapter", action="store_true", help="a PEFT LoRA adapter of the base, by SVD")
    parser.add_argument("--rank", type=int, metavar="R", help="rank of the adapter")
    parser.add_argument("--calibrated", action="store_true", help="the calibrated model, see `calibrate`")


def export(options: argparse.Namespace) -> None:
    if options.as_adapter + options.mergekit_yaml + options.tables > 1:
        raise InputError("export writes one form at a time: expected --as-adapter, --mergekit-yaml or --tables")
    if options.tables:
        from gcwm_viz.export.dataset import export_tables
        from gcwm_viz.runs.tables import open_run

        print(f"tables: {', '.join(export_tables(open_run(options.run), options.out))}")
    elif options.mergekit_yaml:
        from gcwm_viz.export.mergekit import calibrated_yaml, mergekit_yaml, write_mergekit

        store, step, calibrated = _model(options)
        text = mergekit_yaml(store, step) if calibrated is None else calibrated_yaml(calibrated)
        write_mergekit(text, options.out)
    else:
        write_model(options, options.out)
    print(f"wrote {options.out}")


def write_model(options: argparse.Namespace, out: Path) -> None:
    """What the options of :func:`add_model` say, as a new folder ``out``; prints what its form leaves out."""
    import torch

    store, step, calibrated = _model(options)
    dtype = getattr(torch, options.dtype) if options.dtype else None
    if options.as_adapter:
        from gcwm_viz.export.adapter import export_adapter

        print(export_adapter(store, step, out, options.rank, dtype or torch.float32, calibrated).words)
    elif calibrated is not None:
        from gcwm_viz.export.checkpoint import export_calibrated

        export_calibrated(calibrated, out, dtype, tell=print)
    else:
        from gcwm_viz.export.checkpoint import export_step

        export_step(store, step, out, dtype, tell=print)


def _model(options: argparse.Namespace) -> "tuple[RunStore, int, Calibrated | None]":
    """The run, the step, and its calibration where that is asked for."""
    from gcwm_viz.continual.store import RunStore

    if (options.rank is not None) != options.as_adapter:
        raise InputError("an adapter is written with --as-adapter --rank R")
    store = RunStore.open(options.run)
    step = store.steps if options.step is None else options.step
    if not options.calibrated:
        return store, step, None
    from gcwm_viz.calibration.result import Calibrated
    from gcwm_viz.export.checkpoint import open_finished

    if step != store.steps:
        raise InputError(f"a calibration is of the last step: expected --step {store.steps}, got {step}")
    return store, step, Calibrated.of(store, open_finished(store, step).base)
