"""``export``: the merged model of one step as a checkpoint, as a PEFT adapter, or as a mergekit configuration."""

import argparse
from pathlib import Path

from gcwm_viz.commands.options import Commands
from gcwm_viz.errors import InputError


def add(commands: Commands) -> None:
    parser = commands.add_parser("export", help="write the merged model of one step as a checkpoint or adapter")
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--step", type=int, help="[the last]")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write, for mergekit a file")
    parser.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), help="[as in the base; adapter: float32]"
    )
    parser.add_argument("--as-adapter", action="store_true", help="a PEFT LoRA adapter of the base, by SVD")
    parser.add_argument("--rank", type=int, metavar="R", help="rank of the adapter")
    parser.add_argument(
        "--mergekit-yaml", action="store_true", help="a mergekit configuration (task-arithmetic, mean, ties, dare)"
    )
    parser.add_argument("--calibrated", action="store_true", help="the calibrated model, see `calibrate`")
    parser.set_defaults(command=export)


def export(options: argparse.Namespace) -> None:
    import torch

    from gcwm_viz.continual.store import RunStore

    store = RunStore.open(options.run)
    step = store.steps if options.step is None else options.step
    dtype = getattr(torch, options.dtype) if options.dtype else None
    if options.as_adapter and options.mergekit_yaml:
        raise InputError("export writes one form at a time: expected --as-adapter or --mergekit-yaml")
    if (options.rank is not None) != options.as_adapter:
        raise InputError("an adapter is written with --as-adapter --rank R")
    calibrated = None
    if options.calibrated:
        from gcwm_viz.calibration.result import Calibrated
        from gcwm_viz.export.checkpoint import open_finished

        if step != store.steps:
            raise InputError(f"a calibration is of the last step: expected --step {store.steps}, got {step}")
        calibrated = Calibrated.of(store, open_finished(store, step).base)
    if options.mergekit_yaml:
        from gcwm_viz.export.mergekit import calibrated_yaml, mergekit_yaml, write_mergekit

        text = mergekit_yaml(store, step) if calibrated is None else calibrated_yaml(calibrated)
        write_mergekit(text, options.out)
    elif options.as_adapter:
        from gcwm_viz.export.adapter import export_adapter

        loss = export_adapter(store, step, options.out, options.rank, dtype or torch.float32, calibrated)
        print(loss.words)
    elif calibrated is not None:
        from gcwm_viz.export.checkpoint import export_calibrated

        export_calibrated(calibrated, options.out, dtype, tell=print)
    else:
        from gcwm_viz.export.checkpoint import export_step

        export_step(store, step, options.out, dtype, tell=print)
    print(f"wrote {options.out}")
