"""``forecast`` and ``plan``: what a run's updates would do, before and after measuring."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gcwm_viz.commands.options import Commands, add_resources, budget_of, engine_of
from gcwm_viz.commands.work import Bars

if TYPE_CHECKING:
    from gcwm_viz.decide.outlook import Outlook
    from gcwm_viz.runs.tables import Run

BEST = 5
"""Measured plans that ``plan`` lists."""


def add(commands: Commands) -> None:
    parser = commands.add_parser("forecast", help="what each update would bring beside the others, with a verdict")
    parser.add_argument("run", type=Path, metavar="RUN")
    add_resources(parser, engine=True)
    parser.set_defaults(command=forecast)

    parser = commands.add_parser("plan", help="search which updates to take and how much of each, measuring the best")
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--measure", type=_count, metavar="N", help="most plans to merge and score [while worth it]")
    parser.add_argument("--minutes", type=_minutes, help="time to measure in, at most [while worth it]")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the recommended plan, for `run --plan`")
    add_resources(parser, engine=True)
    parser.set_defaults(command=plan)


def forecast(options: argparse.Namespace) -> None:
    from gcwm_viz.decide.forecast import read
    from gcwm_viz.decide.outlook import no_forecast
    from gcwm_viz.decide.plans import outlook_of
    from gcwm_viz.decide.predict import predict
    from gcwm_viz.runs.tables import open_run

    with engine_of(options) as engine, Bars() as bars:
        predict(options.run, on=engine, memory_budget=budget_of(options), progress=bars)
    run = open_run(options.run)
    reason = no_forecast(read(), run.store.settings)
    print(f"{_signals(run)}\n\nNo forecast: {reason}." if reason else _text(run, outlook_of(run)))


def plan(options: argparse.Namespace) -> None:
    from gcwm_viz.continual.store import RunStore
    from gcwm_viz.decide.plans import check_searchable, search, worth
    from gcwm_viz.decide.predict import predict
    from gcwm_viz.decide.sentences import next_words
    from gcwm_viz.runs.tables import open_run

    check_searchable(RunStore.open(options.run))  # before anything is computed
    resources = {"memory_budget": budget_of(options)}
    with engine_of(options) as engine, Bars() as bars:
        predict(options.run, on=engine, progress=bars, **resources)
        seconds = None if options.minutes is None else 60 * options.minutes
        now = search(options.run, most=options.measure, seconds=seconds, on=engine, progress=bars, **resources)
    print(_text(open_run(options.run), now))
    print(f"\n{_measured(now)}\n\n{next_words(now, worth(now))}")
    if options.out is not None:
        _write(options.run, now, options.out)


def _write(run: Path, now: "Outlook", out: Path) -> None:
    from gcwm_viz.checkpoints.atomic import write_bytes
    from gcwm_viz.continual.store import RunStore
    from gcwm_viz.decide.plan import plan_of
    from gcwm_viz.decide.sentences import plan_name
    from gcwm_viz.errors import InputError

    chosen = now.strengths(now.recommended)
    if not chosen:
        raise InputError(f"{out}: not written, since no plan of run {run} is expected to score higher than the base")
    write_bytes(out, plan_of(RunStore.open(run), chosen).to_yaml().encode())
    print(f"wrote {out}: {plan_name(now.knowledge.updates, chosen)}")


def _text(run: "Run", now: "Outlook") -> str:
    from gcwm_viz.decide.rows import by_urgency
    from gcwm_viz.decide.sentences import SCALE, basis, gain_words, harm_words, label, outside_words, plan_words

    if now.outside:
        return "\n\n".join([_signals(run), outside_words(now), f"{plan_words(now)}\n{SCALE}"])
    rows = [("update", "verdict", "all tasks gain by it", "lowers the score, if whole")]
    for k in by_urgency(now):
        verdict = now.verdicts[k]
        rows.append((now.knowledge.updates[k], label(now, k), gain_words(verdict, 3), harm_words(verdict)))
    return f"{_aligned(rows)}\n\n{plan_words(now)}\n{basis(now)}\n{SCALE}"


def _signals(run: "Run") -> str:
    from gcwm_viz.decide.predict import read_tables
    from gcwm_viz.decide.rows import signal_rows
    from gcwm_viz.signals.predictors import PREDICTORS

    signals = signal_rows(run.updates, read_tables(run.path))
    heads = [PREDICTORS[name].title if name in PREDICTORS else str(name) for name in signals]
    rows = [[str(name), *(f"{x:.3g}" if x == x else "n/a" for x in row)] for name, *row in signals.to_numpy()]
    return f"{_aligned([heads, *rows])}\n\nNo verdict follows from these signals alone."


def _measured(now: "Outlook") -> str:
    """The best plans that were measured, and how much worse than the best each is."""
    from gcwm_viz.decide.rows import measured_rows
    from gcwm_viz.decide.sentences import fixed, level_words

    plans = measured_rows(now).sort_values("measured", ascending=False, kind="stable")
    rows = [("best measured plans", "measured", *(() if now.outside else ("forecast",)), "less than the best")]
    for row in plans.head(BEST).to_dict("records"):
        expected = () if now.outside else (level_words(now.base, row["forecast"]),)
        less = fixed(plans["measured"].iloc[0] - row["measured"])
        rows.append((row["plan"], level_words(now.base, row["measured"]), *expected, less))
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a number of plans, 0 or more, found {text!r}")
    return value


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of minutes, 0 or more, found {text!r}")
    return value
