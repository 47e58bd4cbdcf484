"""``lab``: the small model that ships with the project."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gcwm_viz.commands.options import Commands, add_resources, add_settings
from gcwm_viz.commands.request import existing_run, inputs_of_bundle, new_run, settings_of
from gcwm_viz.commands.work import work_on
from gcwm_viz.errors import InputError


def add(commands: Commands) -> None:
    lab = commands.add_parser("lab", help="the small model that ships with the project")
    lab_commands = lab.add_subparsers(required=True, metavar="COMMAND")
    parser = lab_commands.add_parser("build", help="train base, experts and Seq. SFT from the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.set_defaults(command=build)

    parser = lab_commands.add_parser("run", help="run the shipped updates, or resume that run")
    parser.add_argument("--out", type=Path, default=Path("runs/lab"), metavar="RUN")
    parser.add_argument("--sequential", action="store_true", help="describe the Seq. SFT trajectory instead of merging")
    add_settings(parser, eta="the preset's")
    add_resources(parser, device="cpu")  # a GPU is no faster on matrices this small
    parser.set_defaults(command=run)

    parser = lab_commands.add_parser("pipeline", help="train a pipeline on the shipped base and describe its states")
    parser.add_argument("name", metavar="NAME", help="seq-sft, ewc, forever, aimmerging or joint")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN")
    add_settings(parser)
    add_resources(parser, device="cpu")
    parser.set_defaults(command=pipeline)

    parser = lab_commands.add_parser("study", help="every method over task orders and seeds, in one table; takes hours")
    parser.add_argument("--orders", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", metavar="A,B,…", help="[all]")
    parser.add_argument("--no-ablations", action="store_true")
    parser.add_argument("--workers", type=int, default=1, help="processes, one thread each [1]")
    parser.add_argument("--out", type=Path, default=Path("runs/study"), metavar="DIR", help="goes on where it stopped")
    parser.set_defaults(command=study)

    parser = lab_commands.add_parser("where", help="where forgetting is in five systems, and whether conflict is there")
    parser.add_argument("--orders", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", metavar="A,B,…", help="[gcwm,wudi,task-arithmetic,seq-sft,ewc]")
    parser.add_argument("--workers", type=int, default=1, help="processes, one thread each [1]")
    parser.add_argument("--out", type=Path, default=Path("runs/where"), metavar="DIR", help="goes on where it stopped")
    parser.set_defaults(command=where)

    parser = lab_commands.add_parser(
        "decide", help="pools of good and bad updates: what foretells harm, and which choice of updates is right"
    )
    parser.add_argument("--seeds", metavar="A,B,…", help="[0,1,2,3,4 to fit on; 5,6,7,8 to report on]")
    parser.add_argument("--methods", metavar="A,B,…", help="[wudi,task-arithmetic,gcwm]")
    parser.add_argument("--smollm2", action="store_true", help="pools of SmolLM2's adapters instead of the lab's")
    parser.add_argument("--workers", type=int, default=1, help="processes, one thread each [1]")
    parser.add_argument("--out", type=Path, metavar="DIR", help="[runs/decide or runs/decide-smollm2]; goes on")
    parser.set_defaults(command=decide)


def build(options: argparse.Namespace) -> None:
    from gcwm_viz.experiments.lab import bundle

    bundle.build(options.seed, options.out, report=print)
    print(f"wrote {options.out}")


def run(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from gcwm_viz.experiments.lab.bundle import locate

    store = existing_run(options.out, options)
    if store is None:
        bundle = locate()
        inputs = replace(inputs_of_bundle(bundle, bundle.base, sequential=options.sequential), probes_checked=True)
        name = "Lab: Seq. SFT" if options.sequential else "Lab"
        store = new_run(inputs, options.out, options, name, default=False)
    work_on(lambda: store, options)


def pipeline(options: argparse.Namespace) -> None:
    from gcwm_viz.experiments.lab.pipelines import train_on_bundle
    from gcwm_viz.runs.inputs import Inputs
    from gcwm_viz.runs.run import create_run

    if options.out.exists():
        raise InputError(f"output {options.out} already exists; use resume to go on with a run")
    trained = train_on_bundle(options.name, options.out.with_name(f"{options.out.name}-made"))
    inputs = Inputs(base=trained.base, updates=trained.updates, states=trained.states, probes=trained.probes)
    work_on(lambda: create_run(inputs, options.out, settings_of(options), f"Lab: {options.name}"), options)


def study(options: argparse.Namespace) -> None:
    from gcwm_viz.studies.lab.plan import METHODS
    from gcwm_viz.studies.lab.study import study as run_study
    from gcwm_viz.studies.lab.summary import summary

    print(summary(run_study(options.out, ablations=not options.no_ablations, **_grid(options, METHODS))))


def where(options: argparse.Namespace) -> None:
    from gcwm_viz.studies.lab.places import where_sections
    from gcwm_viz.studies.lab.where import SYSTEMS
    from gcwm_viz.studies.lab.where import where as run_study

    print("\n\n".join(where_sections(run_study(options.out, **_grid(options, SYSTEMS))).values()))


def decide(options: argparse.Namespace) -> None:
    from gcwm_viz.decide.benchmark.cases import LAB, SMOLLM2
    from gcwm_viz.decide.benchmark.lab import FITTED, REPORTED
    from gcwm_viz.decide.benchmark.study import METHODS
    from gcwm_viz.decide.benchmark.study import decide as run_benchmark

    model = SMOLLM2 if options.smollm2 else LAB
    out = options.out or Path("runs/decide-smollm2" if options.smollm2 else "runs/decide")
    try:
        seeds = [int(text) for text in options.seeds.split(",")] if options.seeds else [*FITTED, *REPORTED]
    except ValueError:
        raise InputError(f"--seeds: expected whole numbers with commas, got {options.seeds!r}") from None
    methods = options.methods.split(",") if options.methods else METHODS
    tables = run_benchmark(out, model=model, seeds=seeds, methods=methods, workers=options.workers, report=print)
    scored = len(tables["plans"].drop_duplicates(["method", "seed", "plan"])) if len(tables["plans"]) else 0
    print(f"{out}: {scored} plans scored; python -m benchmarks.decide {out} writes what they say")


def _grid(options: argparse.Namespace, methods: Sequence[str]) -> dict[str, Any]:
    """What both studies take: orders, seeds, methods (``methods`` by default), workers, and where progress goes."""
    chosen = options.methods.split(",") if options.methods else methods
    names = ("orders", "seeds", "workers")
    return {name: getattr(options, name) for name in names} | {"methods": chosen, "report": print}
