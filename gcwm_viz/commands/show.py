"""``show``: a run in a few lines, its scores where it has any."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gcwm_viz.commands.options import Commands
from gcwm_viz.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from gcwm_viz.runs.tables import Run


def add(commands: Commands) -> None:
    parser = commands.add_parser("show", help="print the scores of a run by step, or its conflict where it has none")
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--split", choices=("dev", "test"), help="[test, or dev where there is no test]")
    parser.add_argument("--metric", help="em, acc, nll, …; by default exact match or accuracy, as the probes have")
    parser.set_defaults(command=show)


def show(options: argparse.Namespace) -> None:
    from gcwm_viz.runs.tables import open_run
    from gcwm_viz.signals.catalogue import summarised

    run = open_run(options.run)
    if run.tables["steps"].empty:
        raise InputError(f"run {run.path} has no finished step yet; use resume to go on with it")
    scores = run.tables["scores"]
    if len(scores):
        _show_scores(run, scores, options.split, options.metric)
    elif options.split or options.metric:
        raise InputError(f"run {run.path} has no scores; the command score gives it some")
    else:
        columns = [s.column + end for s in summarised() for end in (["", "_max"] if s.extremes else [""])]
        steps = run.tables["steps"].set_index("step")[["update", "eta", *columns]]
        print(f"{run.path}: no scores (the command score gives it some); means over matrices by step")
        _show_inputs(run)
        print(steps.to_string(float_format=lambda value: f"{value:.3f}", na_rep="–"))


def _show_inputs(run: "Run") -> None:
    from gcwm_viz.updates.strength import in_words

    if post := run.store.settings.continual.post_in_words:
        print(f"after every merge: {post}")
    if strengths := run.store.file.strengths:
        print(f"updates taken at a strength: {in_words(strengths)}")


def _show_scores(run: "Run", scores: "pd.DataFrame", split: str | None, metric: str | None) -> None:
    from gcwm_viz.probes.metrics import METRICS, headline, offered
    from gcwm_viz.probes.scores import downstream, score_matrix
    from gcwm_viz.runs.strength import strength_note

    splits = [name for name in ("test", "dev") if name in set(scores["split"])]
    split = split or splits[0]
    if split not in splits:
        raise InputError(f"run {run.path} has scores on {' and '.join(splits)}, got --split {split}")
    measured = scores[scores["split"] == split]
    metric = metric or headline(measured)
    if metric not in offered(measured):
        raise InputError(f"run {run.path} measured {', '.join(offered(measured))} on {split}, got --metric {metric}")
    higher = METRICS[metric]
    matrix = score_matrix(scores, split, metric)
    errors = score_matrix(scores, split, metric, value="se")
    table = downstream(matrix, run.updates, errors=errors, higher_is_better=higher)
    columns = ["overall", "overall_se", "old_mean", "current", "forgetting", "bwt"]
    direction = "higher" if higher else "lower"
    print(f"{run.path}: {metric} on {split}, {direction} = better; step 0 is the base")
    _show_inputs(run)
    print(matrix.join(table[columns]).to_string(float_format=lambda value: f"{value:.3f}", na_rep="–"))
    if not set(matrix.columns) & set(run.updates):
        print(
            f"No probe task bears an update's name ({', '.join(run.updates[:6])}), so no task is known to be an "
            "update's own: forgetting and the columns beside it are undefined (–)"
        )
    if note := strength_note(run):
        print(f"note: {note}")
