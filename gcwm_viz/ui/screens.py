"""The five screens of a talk about a run: one figure and one sentence each, all numbers from the run."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.errors import InputError
from gcwm_viz.figures import gate_curve, layer_grid, retained, task_scores
from gcwm_viz.figures.bounds import bounds
from gcwm_viz.figures.theme import num, percent
from gcwm_viz.probes.metrics import is_share
from gcwm_viz.runs.highlights import Scored, peak, scored
from gcwm_viz.runs.tables import Run
from gcwm_viz.signals.catalogue import ACTIVE
from gcwm_viz.studies.regate import UNGATED
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.loading import load_run, run_names
from gcwm_viz.ui.roots import run_root
from gcwm_viz.ui.text import as_markdown

HEIGHT = 560
MAX_OTHERS = 30
_UNSCORED = "This run was started without probes, so what its models can do is unknown."


@dataclass(frozen=True)
class Screen:
    """title and sentence: Markdown with names escaped. figure: None where something is missing."""

    title: str
    sentence: str
    figure: go.Figure | None = None


def the_base(view: View) -> Screen:
    """What the base can do before anything is merged."""
    scores, title = scored(view.run), "Before: what the base can do"
    if scores is None or 0 not in scores.R.index:
        return Screen(title, _UNSCORED)
    base, own = _row(scores.R, 0), scores.own
    models = {"base": (base, _row(scores.errors, 0)), "each task's own expert": (own, None)}
    sentence = (
        f"The base {_scores(scores, base.mean())}. "
        f"{_count(len(view.run.updates), 'update')}, trained alone on one task each, reach "
        f"**{_value(scores, own.mean())}** on their own task. Can one model have them all?"
    )
    return Screen(title, sentence, task_scores.task_scores(models, unit=scores.unit, height=HEIGHT))


def one_after_another(view: View) -> Screen:
    """What remains of earlier tasks when updates arrive one after another."""
    scores, title = scored(view.run), "One after another: what is kept of earlier tasks"
    if scores is None:
        return Screen(title, _UNSCORED)
    if len(view.run.updates) < 2:
        return Screen(title, "This run has a single update: nothing came earlier that could be forgotten.")
    courses = {_label(view.run): scores.downstream["old_mean"]}
    other = _trained(view.run)
    course = None if other is None else scored(other)
    if other is not None and course is not None:
        courses[_label(other)] = course.downstream["old_mean"]
    parts = [
        f"{as_markdown(name)} keeps **{_value(scores, float(values.iloc[-1]))}**" for name, values in courses.items()
    ]
    sentence = f"After {view.run.steps} steps, {parts[0]} on the earlier tasks"
    if len(parts) > 1:
        sentence += f"; {parts[1]}."
    elif view.run.store.file.states:
        sentence += ". This run is itself the training one after another."
    else:
        sentence += ". There is no run of training one after another with the same updates to compare with."
    return Screen(title, sentence, retained.retained(courses, unit=scores.unit, height=HEIGHT))


def where_conflict_sits(view: View) -> Screen:
    """In which matrices the updates disagree."""
    title = "Where they disagree"
    cells = _last_step(view.run)
    top = peak(cells)
    if top is None:
        return Screen(title, "A conflict needs two updates at one matrix; this run never has two.")
    values = cells["active_conflict"].astype(float)
    sentence = (
        f"At the last step the updates disagree most in **layer {top['layer']}, "
        f"{as_markdown(top['family'], 30)}**: conflict **{num(top['active_conflict'])}**, against {num(values.mean())} "
        "on average. 0 means the same geometry, 1 unrelated."
    )
    if values.isna().any():
        sentence += f" In {int(values.isna().sum())} of {len(values)} matrices it is not defined."
    figure = layer_grid.layer_grid(cells, ACTIVE, axes=view.grid, limits=bounds(cells[ACTIVE.column], fit=True),
                                   chosen=(int(top["layer"]), str(top["family"])))  # fmt: skip
    figure.update_layout(height=HEIGHT)
    return Screen(title, sentence, figure)


def the_decision(view: View) -> Screen:
    """What the gate decides, from the conflict."""
    title = "The gate decides, matrix by matrix"
    cells = _last_step(view.run)
    gated = cells[~cells["mode"].isin(UNGATED)]
    if gated.empty:
        return Screen(title, "This run has no gate: its method merges directly, or its states come from training.")
    if gated["conflict"].isna().all():
        return Screen(title, "No matrix of this run has a conflict, so the gate has nothing to decide by.")
    counts = gated["mode"].value_counts()
    words_by_mode = {"blend": "a blend", "geo": "the geometry branch alone", "plain": "the plain branch alone"}
    decisions = ", ".join(f"{counts[mode]} get {words}" for mode, words in words_by_mode.items() if mode in counts)
    sentence = (
        f"More conflict, more geometry: of {_count(len(gated), 'matrix', 'matrices')}, {decisions}. "
        f"On average **{percent(gated['alpha'].mean())}** of the geometry branch is used."
    )
    figure = gate_curve.gate_curve(gated, view.config)
    figure.update_layout(height=HEIGHT)
    figure.update_traces(marker={"size": 14}, selector={"mode": "markers"})
    return Screen(title, sentence, figure)


def what_was_kept(view: View) -> Screen:
    """The final model against base and experts."""
    scores, title = scored(view.run), "After: what was kept"
    if scores is None or scores.R.empty:
        return Screen(title, _UNSCORED)
    last = int(scores.R.index[-1])
    end = _row(scores.R, last)
    trained = bool(view.run.store.file.states)
    models = {
        "trained on all in turn" if trained else "one merged model": (end, _row(scores.errors, last)),
        "each task's own expert": (scores.own, None),
    }
    if 0 in scores.R.index:
        models = {"base": (_row(scores.R, 0), _row(scores.errors, 0)), **models}
    forgetting = float(scores.downstream["forgetting"].iloc[-1])
    lost = "" if np.isnan(forgetting) else f" Average drop from each task's best: **{_drop(scores, forgetting)}**."
    number = len(view.run.updates)
    origin = (
        f"trained on {_count(number, 'task')} one after another" if trained else f"with all {_count(number, 'update')}"
    )
    sentence = (
        f"One model {origin} {_scores(scores, end.mean())}; "
        f"the base {_value(scores, models['base'][0].mean()) if 'base' in models else 'n/a'}, the experts on their own "
        f"tasks {_value(scores, scores.own.mean())}.{lost}"
    )
    return Screen(title, sentence, task_scores.task_scores(models, unit=scores.unit, height=HEIGHT))


SCREENS: tuple[Callable[[View], Screen], ...] = (
    the_base, one_after_another, where_conflict_sits, the_decision, what_was_kept,
)  # fmt: skip


def _last_step(run: Run) -> pd.DataFrame:
    matrices = run.tables["matrices"]
    last: pd.DataFrame = matrices[matrices["step"] == matrices["step"].max()]
    return last


def _trained(run: Run) -> Run | None:
    """A scored run in the same root that describes training one after another with the same updates."""
    if run.store.file.states:
        return None
    for name in run_names(run_root())[:MAX_OTHERS]:
        try:
            other = load_run(run_root() / name)
            if other.store.file.states and other.updates == run.updates and not other.tables["scores"].empty:
                return other
        except InputError:
            continue
    return None


def _label(run: Run) -> str:
    return "training one after another" if run.store.file.states else f"merging ({run.store.settings.method})"


def _row(table: pd.DataFrame, step: int) -> pd.Series:
    return pd.Series(table.loc[step])


def _scores(scores: Scored, value: float) -> str:
    """What a model does, in the words of the metric."""
    if not is_share(scores.metric):
        return f"has **{num(value)}** {scores.unit}"
    return f"answers **{percent(value)}** of the questions {'exactly' if scores.metric == 'em' else 'rightly'}"


def _value(scores: Scored, value: float) -> str:
    return percent(value) if is_share(scores.metric) else f"{num(value)} {scores.unit}"


def _drop(scores: Scored, value: float) -> str:
    """A difference of scores: points of a share, else in the metric's unit."""
    return f"{num(100 * value)} points" if is_share(scores.metric) else f"{num(value)} {scores.unit}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
