"""``forecast`` and ``plan``: what a run's updates would do, before and after measuring."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gcwm_viz.commands.options import Commands, add_resources, budget_of, engine_of
from gcwm_viz.commands.work import Bars

if TYPE_CHECKING:
    from gcwm_viz.decide.outlook import Outlook


def add(commands: Commands) -> None:
    parser = commands.add_parser("forecast", help="predictors of what each update does, and a verdict on each")
    parser.add_argument("run", type=Path, metavar="RUN")
    add_resources(parser, engine=True)
    parser.set_defaults(command=forecast)

    parser = commands.add_parser("plan", help="search the updates to take in and their strengths, measuring the best")
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--measure", type=int, metavar="N", help="most plans to merge and score [while worth it]")
    parser.add_argument("--minutes", type=float, help="time to measure in, at most")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the plan for `run --plan`")
    add_resources(parser, engine=True)
    parser.set_defaults(command=plan)


def forecast(options: argparse.Namespace) -> None:
    from gcwm_viz.decide.plans import outlook_of
    from gcwm_viz.decide.predict import predict
    from gcwm_viz.runs.tables import open_run

    with engine_of(options) as engine, Bars() as bars:
        predict(options.run, on=engine, memory_budget=budget_of(options), progress=bars)
    print(_text(outlook_of(open_run(options.run))))


def plan(options: argparse.Namespace) -> None:
    from gcwm_viz.checkpoints.atomic import write_bytes
    from gcwm_viz.continual.store import RunStore
    from gcwm_viz.decide.plan import plan_of
    from gcwm_viz.decide.plans import search
    from gcwm_viz.decide.predict import predict

    resources = {"memory_budget": budget_of(options)}
    with engine_of(options) as engine, Bars() as bars:
        predict(options.run, on=engine, progress=bars, **resources)
        seconds = None if options.minutes is None else 60 * options.minutes
        now = search(options.run, most=options.measure, seconds=seconds, on=engine, progress=bars, **resources)
    print(_text(now))
    if options.out is not None:
        write_bytes(options.out, plan_of(RunStore.open(options.run), now.strengths(now.plan)).to_yaml().encode())
        print(f"wrote {options.out}")


def _text(now: "Outlook") -> str:
    from gcwm_viz.decide.sentences import basis, plan_words, verdict_words

    names = now.knowledge.updates
    width = max(map(len, names))
    lines = [f"{name:<{width}}  {verdict_words(now, k)}" for k, name in enumerate(names)]
    return "\n".join([*lines, "", plan_words(now), basis(now)])
