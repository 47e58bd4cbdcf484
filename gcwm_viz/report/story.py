"""The story of a run in five sentences: what the merge reached, what it forgot, where, whether conflict shows it, and
what to do about it. Every sentence comes from figures of the run, and says what is uncertain or not computed yet.

Text is plain; names come from files as they are, for the reader's side to escape.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from gcwm_viz.attribution.spatial import forgetting_pairs, spatial_correlations, spatial_summary
from gcwm_viz.attribution.worst import Worst, split_of, worst_step
from gcwm_viz.decide.outlook import Outlook
from gcwm_viz.decide.sentences import fixed, plan_words
from gcwm_viz.figures.layer_grid import short_family
from gcwm_viz.figures.theme import num
from gcwm_viz.probes.metrics import is_share
from gcwm_viz.probes.scores import forgetting_matrix
from gcwm_viz.probes.values import difference_error
from gcwm_viz.runs.examples import FORGOTTEN
from gcwm_viz.runs.highlights import Scored, example_changes, loss_errors, peak, scored
from gcwm_viz.runs.strength import best_strength
from gcwm_viz.runs.tables import Run
from gcwm_viz.statistics.means import Z95

_SIGNAL = "incoming_conflict"
_LISTED = 4


@dataclass(frozen=True)
class Sentence:
    """``text``, and where it leads: the name of a page, the label of the link, and what is selected there."""

    text: str
    page: str
    link: str
    selection: Mapping[str, object] = field(default_factory=dict)


def story(run: Run, outlook: Outlook | None = None) -> list[Sentence]:
    """The five sentences. ``outlook``: what a forecast expects of the run's updates, where there is one."""
    scores = scored(run)
    worst = worst_step(run.tables["attribution"], run.updates)
    return [_reached(run, scores), _forgot(run, scores), _place(run, worst), _why(run), _what_to_do(run, outlook)]


def _reached(run: Run, scores: Scored | None) -> Sentence:
    updates = f"{len(run.updates)} update{'s' if len(run.updates) > 1 else ''}"
    if scores is None or scores.downstream.empty:
        waits = run.store.file.probes.where and run.status != "complete"
        text = f"What {updates} do to the base is {'being scored' if waits else 'unknown: the run has no probes'}."
        return Sentence(text, "Scores" if waits else "Start", "See the scores" if waits else "Start a run with probes")
    last = scores.downstream.iloc[-1]
    base, end = scores.downstream["overall"].get(0, math.nan), last["overall"]
    how = "Training on" if run.store.file.states else "Merging"
    after = int(scores.downstream.index[-1])
    done = f"{how} {updates}" if after == run.steps else f"{how} the first {after} of {updates}"
    change = f"takes the mean {scores.unit} over {scores.R.shape[1]} tasks from {fixed(base)} to {fixed(end)}"
    own = f"; each task's own expert has {fixed(scores.own.mean())}" if np.isfinite(scores.own.mean()) else ""
    text = f"{done} {change}{_within(last.get('overall_se', math.nan))}{own}."
    return Sentence(text, "Scores", "See every score", {"step": after})


def _forgot(run: Run, scores: Scored | None) -> Sentence:
    if scores is None or len(scores.R) < 2:
        return Sentence("Forgetting shows once two steps are scored.", "Scores", "See the scores")
    last = int(scores.R.index[-1])
    earlier = [name for name in run.updates[: last - 1] if name in scores.R]
    lost = forgetting_matrix(scores.R, higher_is_better=scores.higher_is_better).loc[last, earlier].dropna()
    if lost.empty:
        return Sentence("No task came earlier that could be forgotten.", "Scores", "See the scores", {"step": last})
    signed = scores.R if scores.higher_is_better else -scores.R
    best = {task: int(signed.loc[: last - 1, task].idxmax()) for task in lost.index}
    by_state = {at: example_changes(run, at, last, scores.split, scores.metric) for at in set(best.values())}
    changes = {task: by_state[at][task] for task, at in best.items() if task in by_state[at]}
    errors = {task: difference_error(scores.metric, change_n) for task, change_n in changes.items()}
    beyond = [task for task in errors if lost[task] > Z95 * errors[task]]
    task = str(lost.idxmax())
    direction = "fell" if scores.higher_is_better else "rose"
    since = "the base" if best[task] == 0 else f"step {best[task]}"
    course = dict(zip(scores.R.index, scores.R[task].to_numpy(dtype=float), strict=True))
    worse = f"from {fixed(course[best[task]])} after {since} to {fixed(course[last])}"
    change = f"{fixed(lost.to_numpy(dtype=float).max())}{_within(errors.get(task, math.nan))}"
    others = f"{len(beyond)} of {len(lost)} earlier tasks lost more than chance explains"
    at: dict[str, object] = {"step": last, "task": task, "split": scores.split, "status": FORGOTTEN, "search": ""}
    own = changes.get(task)
    if own is not None and is_share(scores.metric) and (own < 0).any():
        at["example"] = f"{task}:{int((own < 0).nonzero()[0]) + 1}"
    text = f"The task {task} {direction} most, {worse} (by {change}); {others}."
    if not beyond:
        text = f"No earlier task lost more than chance explains; {task} lost most, {change}."
    return Sentence(text, "Examples", "Its lost examples", at)


def _within(error: float, digits: int = 3) -> str:
    """Half of the 95 % interval; nothing where the error is not known."""
    return "" if math.isnan(error) else f" ± {fixed(Z95 * error, digits)}"


def _place(run: Run, worst: Worst | None) -> Sentence:
    if worst is None:
        split = len(run.tables["attribution"]) > 0
        text = "At no step did the loss of an earlier task rise." if split else "Which matrices did it is not computed."
        return Sentence(text, "Where", "See where" if split else "Compute where it was lost", {"step": run.steps})
    error = loss_errors(run, worst.step - 1, worst.step, worst.split).get(worst.task, math.nan)
    cells = ", ".join(f"{layer if layer >= 0 else ''} {short_family(name)}".strip() for layer, name in worst.half)
    few = len(worst.half) <= _LISTED
    where = f" ({cells})" if few else f", {_concentrated(worst)}"
    text = (
        f"Step {worst.step}, {run.updates[worst.step - 1]}, raised the loss of {worst.task} most, by "
        f"{fixed(worst.change, 2)}{_within(error, 2)} nats; half of the harm came from {len(worst.half)} of "
        f"{worst.matrices} matrices{where}."
    )
    return Sentence(text, "Where", "See them, and undo it", {"step": worst.step, "task": worst.task})


def _concentrated(worst: Worst) -> str:
    """In which layer or family most of the matrices are that did half of the harm."""
    layers, families = Counter(layer for layer, _ in worst.half), Counter(name for _, name in worst.half)
    (layer, inside), (family, alike) = layers.most_common(1)[0], families.most_common(1)[0]
    if inside >= alike:
        return f"{inside} of them in layer {layer}"
    return f"{alike} of them {short_family(family)}"


def _why(run: Run) -> Sentence:
    top = peak(run.tables["matrices"])
    if top is None:
        return Sentence("Conflict needs two updates at one matrix, and no step has two.", "Conflict", "See the map")
    at = {"step": int(top["step"]), "layer": int(top["layer"]), "family": str(top["family"])}
    highest = (
        f"Updates disagree most in layer {at['layer']}, {at['family']}, at step {at['step']} (conflict "
        f"{num(top['active_conflict'])} of 1)"
    )
    rows = run.tables["attribution"]
    rows = rows[rows["split"] == split_of(rows)]
    if rows.empty:
        return Sentence(f"{highest}.", "Conflict", "Open this matrix", at)
    correlations = spatial_correlations(rows, run.tables["matrices"], [_SIGNAL], order=run.updates)
    row = spatial_summary(forgetting_pairs(correlations, rows), cluster=["step"])
    if row.empty or math.isnan(row["rho"].iloc[0]):
        return Sentence(f"{highest}; whether the harm is there too is not defined here.", "Conflict", "Open it", at)
    rho, low, high = (float(row[name].iloc[0]) for name in ("rho", "low", "high"))
    interval = "" if math.isnan(low) else f", 95 % {fixed(low, 2, signed=True)} to {fixed(high, 2, signed=True)}"
    if math.isnan(low) or low * high <= 0:
        points = "conflict does not tell where the harm is"
    else:
        points = f"the harm is where conflict is {'high' if rho > 0 else 'low'}"
    text = f"{highest}; {points}: rank correlation over matrices {fixed(rho, 2, signed=True)}{interval}."
    return Sentence(text, "Conflict", "Open this matrix", at)


def _what_to_do(run: Run, outlook: Outlook | None) -> Sentence:
    if run.store.file.states:
        return Sentence("Nothing was merged, so there is nothing to choose.", "Two runs", "Compare it with a merge")
    best = best_strength(run) if len(run.tables["strength"]) else None
    if best is not None and best.clear:
        return Sentence(f"{best.sentence[0].upper()}{best.sentence[1:]}.", "Strength", "See the curve")
    if outlook is not None:
        return Sentence(plan_words(outlook), "Decide", "Choose the updates")
    return Sentence("Which updates to take less of is not forecast yet.", "Decide", "Forecast it")
