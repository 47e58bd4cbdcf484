"""``show``: the scores of a run in a few lines."""

import argparse
from pathlib import Path


def add(jobs) -> None:  # type: ignore[no-untyped-def]
    parser = jobs.add_parser("show", help="print the scores of a run, step by step")
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--split", default="test", choices=("dev", "test"))
    parser.add_argument("--metric", help="em, acc, nll, …; by default exact match or accuracy, as the probes have")
    parser.set_defaults(job=show)


def show(options: argparse.Namespace) -> None:
    from gcwm_viz.errors import InputError
    from gcwm_viz.probes.metrics import METRICS, headline, offered
    from gcwm_viz.probes.scores import downstream, score_matrix
    from gcwm_viz.tables import open_run

    run = open_run(options.run)
    scores = run.tables["scores"]
    if scores.empty:
        raise InputError(f"run {run.path} has no scores: it was started without probes or is not finished")
    metric = options.metric or headline(scores)
    if metric not in offered(scores):
        raise InputError(f"run {run.path} measured {', '.join(offered(scores))}, got --metric {metric}")
    higher = METRICS[metric]
    matrix = score_matrix(scores, options.split, metric)
    errors = score_matrix(scores, options.split, metric, value="se")
    table = downstream(matrix, run.updates, errors=errors, higher_is_better=higher)
    columns = ["overall", "overall_se", "old_mean", "current", "forgetting", "bwt"]
    direction = "higher" if higher else "lower"
    print(f"{run.path}: {metric} on {options.split}, {direction} = better; step 0 is the base")
    print(matrix.join(table[columns]).to_string(float_format=lambda value: f"{value:.3f}", na_rep="–"))
