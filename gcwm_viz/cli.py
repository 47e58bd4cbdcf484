"""The command line: the same jobs that the app starts."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from gcwm_viz.errors import InputError

USAGE_ERROR = 2
CANCELLED = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, 2 for a mistake in input or settings, 3 when cancelled (``resume`` goes on), 130 on Ctrl-C."""
    options = _parser().parse_args(arguments)
    from gcwm_viz.continual.store import RunCancelledError

    try:
        options.job(options)
    except InputError as error:
        print(f"gcwm_viz: {error}", file=sys.stderr)
        return USAGE_ERROR
    except RunCancelledError as error:
        print(f"gcwm_viz: {error}", file=sys.stderr)
        return CANCELLED
    except KeyboardInterrupt:
        print("gcwm_viz: interrupted; `resume` goes on with the run", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gcwm_viz", description=__doc__)
    jobs = parser.add_subparsers(required=True, metavar="JOB")

    run = jobs.add_parser("run", help="merge a sequence of updates and describe every step")
    _add_inputs(run)
    run.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder to write")
    run.add_argument("--probes", type=Path, metavar="DIR", help="folder with dev, test and representation probes")
    _add_resources(run)
    run.set_defaults(job=_run)

    check = jobs.add_parser("check", help="what a run would do, from headers alone")
    _add_inputs(check)
    check.add_argument("--device", default="auto")
    check.set_defaults(job=_check)

    resume = jobs.add_parser("resume", help="go on with a run that was interrupted")
    resume.add_argument("run", type=Path, metavar="RUN")
    _add_resources(resume)
    resume.set_defaults(job=_resume)

    export = jobs.add_parser("export", help="write the merged model of one step as a checkpoint")
    export.add_argument("run", type=Path, metavar="RUN")
    export.add_argument("--step", type=int, required=True)
    export.add_argument("--out", type=Path, required=True, metavar="DIR")
    export.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="default: as in the base")
    export.set_defaults(job=_export)

    methods = jobs.add_parser("methods", help="list the merge methods")
    methods.set_defaults(job=_methods)

    lab = jobs.add_parser("lab", help="the small model that ships with the project")
    lab_jobs = lab.add_subparsers(required=True, metavar="LAB_JOB")
    build = lab_jobs.add_parser("build", help="train base, experts and Seq. SFT from nothing")
    build.add_argument("--seed", type=int, default=0)
    build.add_argument("--out", type=Path, required=True, metavar="DIR")
    build.set_defaults(job=_lab_build)
    lab_run = lab_jobs.add_parser("run", help="run the shipped updates, or resume that run")
    lab_run.add_argument("--out", type=Path, default=Path("runs/lab"), metavar="RUN")
    lab_run.add_argument(
        "--sequential", action="store_true", help="describe the Seq. SFT trajectory instead of merging"
    )
    _add_resources(lab_run, device="cpu")
    _add_settings(lab_run)
    lab_run.set_defaults(job=_lab_run)
    return parser


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--update",
        action="append",
        required=True,
        type=_named_path,
        metavar="NAME=DIR",
        help="checkpoint, LoRA adapter or folder of update tensors; repeat in order of arrival",
    )
    parser.add_argument(
        "--state",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="describe these states S_1, S_2, … of a training pipeline instead of merging",
    )
    _add_settings(parser)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="scale-free", help="scale-free (default), paper or release")
    parser.add_argument("--method", default="gcwm", help="see `methods`")
    parser.add_argument(
        "--set", action="append", default=[], dest="settings", metavar="KEY=VALUE", help="one setting of the preset"
    )


def _add_resources(parser: argparse.ArgumentParser, device: str = "auto") -> None:
    parser.add_argument(
        "--device", default=device, help=f"auto (cuda, then mps, then cpu) or a torch device [{device}]"
    )
    parser.add_argument("--workers", type=int, help="processes at a time [one a core without a GPU, else one]")


def _named_path(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not separator or not name or not path:
        raise argparse.ArgumentTypeError(f"expected NAME=DIR, got {text!r}")
    return name, Path(path)


def _settings(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    from gcwm_viz.continual.config import RunSettings, parse_setting
    from gcwm_viz.merging.registry import get_method

    overrides = dict(parse_setting(text) for text in options.settings)
    get_method(options.method)
    return RunSettings.preset_with(options.preset, overrides, options.method)


def _inputs(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    from gcwm_viz.runs import Inputs

    probes = getattr(options, "probes", None)
    return Inputs(base=options.base, updates=options.update, states=options.state, probes=probes)


def _run(options: argparse.Namespace) -> None:
    from gcwm_viz.continual.device import pick_device
    from gcwm_viz.runs import create_run

    settings = _settings(options)
    pick_device(options.device)  # before anything is written
    _work(create_run(_inputs(options), options.out, settings), options)


def _resume(options: argparse.Namespace) -> None:
    from gcwm_viz.continual.store import RunStore

    _work(RunStore.open(options.run), options)


def _work(store, options: argparse.Namespace) -> None:  # type: ignore[no-untyped-def]
    from gcwm_viz.continual.device import pick_device
    from gcwm_viz.runs import continue_run

    bars: dict[str, tqdm] = {}
    tqdm.monitor_interval = 0  # its thread would be in the way of forking workers

    def progress(phase: str, done: int, total: int, label: str) -> None:
        if phase not in bars:
            bars[phase] = tqdm(total=total, initial=done - 1, desc=phase, unit="", dynamic_ncols=True)
        bars[phase].set_postfix_str(label[-40:], refresh=False)
        bars[phase].update(done - bars[phase].n)

    try:
        continue_run(store, pick_device(options.device), workers=options.workers, progress=progress)
    finally:
        for bar in bars.values():
            bar.close()
    print(f"run {store.path}: {store.steps} steps, {len(store.keys)} matrices")


def _check(options: argparse.Namespace) -> None:
    from gcwm_viz.continual.device import pick_device
    from gcwm_viz.continual.estimate import estimate
    from gcwm_viz.runs import open_inputs

    settings, device = _settings(options), pick_device(options.device)
    plan = open_inputs(_inputs(options)).plan
    print(f"base {plan.base}: {plan.base_parameters:,} parameters, {plan.parameters:,} in target matrices")
    for row in plan.coverage:
        print(
            f"  {row['update']} ({row['kind']}): {row['matrices']} matrices, {row['missing']} missing, "
            f"{row['ignored']} tensors ignored, {row['extra']} not in the base"
        )
    for family in plan.families:
        print(f"  {family['family']} {family['d_out']}×{family['d_in']}: {family['matrices']} matrices")
    for warning in plan.warnings:
        print(f"warning: {warning}")
    for note in plan.notes:
        print(f"note: {note}")
    need = estimate(plan.active, len(plan.updates), settings, device)
    print(
        f"reads {plan.bytes_to_read / 1e9:.2f} GB, needs about {need.memory_bytes / 1e9:.2f} GB of memory beyond the "
        f"libraries, {need.disk_bytes / 1e9:.2f} GB of disk and some {need.seconds:.0f} s on {device}"
    )


def _export(options: argparse.Namespace) -> None:
    import torch

    from gcwm_viz.continual.store import RunStore
    from gcwm_viz.runs import export_step

    dtype = getattr(torch, options.dtype) if options.dtype else None
    export_step(RunStore.open(options.run), options.step, options.out, dtype)
    print(f"wrote {options.out}")


def _methods(options: argparse.Namespace) -> None:
    from gcwm_viz.merging.registry import METHODS

    del options
    for method in METHODS.values():
        print(f"{method.name:20} {method.summary} ({method.source})")


def _lab_build(options: argparse.Namespace) -> None:
    from gcwm_viz.lab.bundle import build

    build(options.seed, options.out, report=print)
    print(f"wrote {options.out}")


def _lab_run(options: argparse.Namespace) -> None:
    from gcwm_viz.continual.store import RunStore
    from gcwm_viz.lab.bundle import locate
    from gcwm_viz.runs import Inputs, create_run

    if (options.out / "run.json").is_file():
        store = RunStore.open(options.out)
    else:
        bundle = locate()
        states = [bundle.sft[step] for step in sorted(bundle.sft)] if options.sequential else []
        inputs = Inputs(base=bundle.base, updates=list(bundle.updates.items()), states=states, probes=bundle.probes)
        name = "Lab: Seq. SFT" if options.sequential else "Lab"
        store = create_run(inputs, options.out, _settings(options), name)
    _work(store, options)
