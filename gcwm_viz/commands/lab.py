"""``lab``: the small model that ships with the project."""

import argparse
from pathlib import Path

from gcwm_viz.commands.options import add_resources, add_settings, settings_of, work_on
from gcwm_viz.errors import InputError


def add(jobs) -> None:  # type: ignore[no-untyped-def]
    lab_jobs = jobs.add_parser("lab", help="the small model that ships with the project").add_subparsers(
        required=True, metavar="LAB_JOB"
    )
    parser = lab_jobs.add_parser("build", help="train base, experts and Seq. SFT from nothing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.set_defaults(job=build)

    parser = lab_jobs.add_parser("run", help="run the shipped updates, or resume that run")
    parser.add_argument("--out", type=Path, default=Path("runs/lab"), metavar="RUN")
    parser.add_argument("--sequential", action="store_true", help="describe the Seq. SFT trajectory instead of merging")
    add_settings(parser)
    add_resources(parser, device="cpu")  # too small for a GPU to pay
    parser.set_defaults(job=run)


def build(options: argparse.Namespace) -> None:
    from gcwm_viz.lab import bundle

    bundle.build(options.seed, options.out, report=print)
    print(f"wrote {options.out}")


def run(options: argparse.Namespace) -> None:
    from gcwm_viz.continual.config import difference
    from gcwm_viz.continual.store import RunStore
    from gcwm_viz.lab.bundle import locate
    from gcwm_viz.runs import Inputs, create_run

    if (options.out / "run.json").is_file():
        store = RunStore.open(options.out)
        changed = difference(store.settings.to_dict(), settings_of(options).to_dict())
        if changed:
            raise InputError(
                f"run {options.out} has other settings than asked for ({changed}); expected another --out, "
                "or resume to go on with its own"
            )
    else:
        bundle = locate()
        states = [bundle.sft[step] for step in sorted(bundle.sft)] if options.sequential else []
        inputs = Inputs(base=bundle.base, updates=list(bundle.updates.items()), states=states, probes=bundle.probes)
        name = "Lab: Seq. SFT" if options.sequential else "Lab"
        store = create_run(inputs, options.out, settings_of(options), name)
    work_on(store, options)
