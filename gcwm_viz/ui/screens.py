"""The story of a run for a talk: one sentence and one picture a screen, all numbers from the run."""

from functools import partial

import numpy as np
import pandas as pd

from gcwm_viz.attribution.worst import Worst, worst_step
from gcwm_viz.decide.sentences import plan_words
from gcwm_viz.errors import InputError
from gcwm_viz.figures import attribution_map, gate_curve, layer_grid, plan_curve, retained, task_scores
from gcwm_viz.figures.bounds import bounds
from gcwm_viz.figures.layer_grid import short_family
from gcwm_viz.figures.theme import num, percent
from gcwm_viz.probes.metrics import is_share
from gcwm_viz.runs.highlights import Scored, peak, scored
from gcwm_viz.runs.tables import Run
from gcwm_viz.signals.catalogue import ACTIVE
from gcwm_viz.statistics.means import Z95
from gcwm_viz.studies.regate import UNGATED
from gcwm_viz.ui.decide import unit_of
from gcwm_viz.ui.decision import Known, known_of
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.loading import load_run
from gcwm_viz.ui.roots import run_names, run_root
from gcwm_viz.ui.stage import ABOVE, Screen, Stage
from gcwm_viz.ui.talk_question import the_question
from gcwm_viz.ui.talk_undo import the_undo
from gcwm_viz.ui.text import as_markdown

MAX_OTHERS = 30


def what_is_kept(view: View, scores: Scored | None) -> Screen | None:
    """What remains of earlier tasks over the steps; None without a score of one."""
    if scores is None or scores.downstream["old_mean"].isna().all():
        return None
    title = "One after another: what is kept of earlier tasks"
    return Screen("Forgetting", title, partial(_draw_kept, view=view, scores=scores))


def _draw_kept(stage: Stage, view: View, scores: Scored) -> None:
    courses = {_label(view.run): scores.downstream}
    other = _trained(view.run)
    course = None if other is None else scored(other)
    if other is not None and course is not None and course.metric == scores.metric:
        courses[_label(other)] = course.downstream
    parts = [f"{as_markdown(name)} keeps **{_with_error(scores, course)}**" for name, course in courses.items()]
    sentence = f"After {view.run.steps} steps, {parts[0]} on the earlier tasks"
    if len(parts) > 1:
        sentence += f"; {parts[1]}."
    elif view.run.store.file.states:
        sentence += ". This run is itself the training one after another."
    else:
        sentence += ". There is no run of training one after another with the same updates to compare with."
    stage.say(f"{sentence} Bars: 95 %.")
    means, errors = (
        {name: course[column] for name, course in courses.items() if column in course}
        for column in ("old_mean", "old_mean_se")
    )
    figure = retained.retained(means, errors, unit=scores.unit).update_layout(legend=ABOVE)
    stage.plot(figure, key="kept", alt=retained.ABOUT.line)


def the_place(view: View, worst: Worst | None) -> Screen | None:
    """The matrices behind the worst step, or else where the updates disagree; None where neither is known."""
    if worst is not None:
        return Screen("Place", "Where it was lost", partial(_draw_attribution, view=view, worst=worst))
    top = peak(_last_step(view.run))
    if top is None:
        return None
    return Screen("Place", "Where they disagree", partial(_draw_conflict, view=view, top=top))


def _draw_attribution(stage: Stage, view: View, worst: Worst) -> None:
    cells = list(dict.fromkeys(worst.half))
    named = [f"{layer} {as_markdown(short_family(family), 24)}" if layer >= 0 else "outside" for layer, family in cells]
    more = ", …" if len(named) > 6 else ""
    stage.say(
        f"Step {worst.step}, which adds {as_markdown(view.run.updates[worst.step - 1], 40)}, raised the loss of "
        f"{as_markdown(worst.task, 40)} most, by **{num(worst.change)} nats**. Half of the harm came from "
        f"**{len(worst.half)} of {worst.matrices} matrices**, outlined here ({', '.join(named[:6])}{more}). "
        "Orange = made it worse, blue = better."
    )
    rows = worst.rows(view.run.tables["attribution"])
    rows = rows[rows["task"] == worst.task]
    figure = attribution_map.attribution_map(rows, label=worst.task, axes=view.grid, outlined=cells)
    stage.plot(figure, key="attribution", alt=attribution_map.ATTRIBUTION.line)


def _draw_conflict(stage: Stage, view: View, top: pd.Series) -> None:
    cells = _last_step(view.run)
    values = cells["active_conflict"].astype(float)
    sentence = (
        f"At the last step the updates disagree most in **layer {top['layer']}, "
        f"{as_markdown(top['family'], 30)}**: conflict **{num(top['active_conflict'])}**, against {num(values.mean())} "
        "on average. 0 means the same geometry, 1 unrelated."
    )
    if values.isna().any():
        sentence += f" In {int(values.isna().sum())} of {len(values)} matrices it is not defined."
    stage.say(sentence)
    figure = layer_grid.layer_grid(cells, ACTIVE, axes=view.grid, limits=bounds(cells[ACTIVE.column], fit=True),
                                   chosen=(int(top["layer"]), str(top["family"])))  # fmt: skip
    stage.plot(figure, key="conflict", alt=ACTIVE.line)


def the_decision(view: View) -> Screen | None:
    """Which updates to take, or else what the gate decides; None where there is neither."""
    known = known_of(view.run)
    if known.now is not None:
        return Screen("Decision", "The decision: what to take in", partial(_draw_plan, known=known))
    cells = _last_step(view.run)
    gated = cells[~cells["mode"].isin(UNGATED)]
    if gated["conflict"].isna().all():  # also of none
        return None
    return Screen("Decision", "The gate decides, matrix by matrix", partial(_draw_gate, view=view, gated=gated))


def _draw_plan(stage: Stage, known: Known) -> None:
    assert known.now is not None
    stage.say(f"{as_markdown(plan_words(known.now), 600)} Mean {known.unit}; ± 95 %.")
    figure = plan_curve.plan_curve(known.orders, unit_of(known))
    stage.plot(figure, key="decision", alt=plan_curve.ABOUT.line)


def _draw_gate(stage: Stage, view: View, gated: pd.DataFrame) -> None:
    counts = gated["mode"].value_counts()
    words_by_mode = {"blend": "a blend", "geo": "the geometry branch alone", "plain": "the plain branch alone"}
    decisions = ", ".join(f"{counts[mode]} get {words}" for mode, words in words_by_mode.items() if mode in counts)
    stage.say(
        f"More conflict, more geometry: of {_count(len(gated), 'matrix', 'matrices')}, {decisions}. "
        f"On average **{percent(gated['alpha'].mean())}** of the geometry branch is used."
    )
    figure = gate_curve.gate_curve(gated, view.config).update_layout(legend=ABOVE)
    figure.update_traces(marker={"size": 14}, selector={"mode": "markers"})
    stage.plot(figure, key="decision", alt=gate_curve.ABOUT.line)


def what_was_kept(view: View, scores: Scored | None) -> Screen | None:
    """The final model against base and experts."""
    if scores is None or scores.R.empty:
        return None
    return Screen("After", "After: what was kept", partial(_draw_after, view=view, scores=scores))


def _draw_after(stage: Stage, view: View, scores: Scored) -> None:
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
    stage.say(
        f"One model {origin} {_scores(scores, end.mean())}; "
        f"the base {_value(scores, models['base'][0].mean()) if 'base' in models else 'n/a'}, the experts on their own "
        f"tasks {_value(scores, scores.own.mean())}.{lost}"
    )
    figure = task_scores.task_scores(models, unit=scores.unit).update_layout(legend=ABOVE)
    stage.plot(figure, key="after", alt=task_scores.ABOUT.line)


def story(view: View) -> list[Screen]:
    """The screens that apply to the run."""
    scores, worst = scored(view.run), worst_step(view.run.tables["attribution"], view.run.updates)
    told = (
        the_question(view),
        what_is_kept(view, scores),
        the_place(view, worst),
        the_undo(view, worst, scores),
        the_decision(view),
        what_was_kept(view, scores),
    )
    return [screen for screen in told if screen is not None]


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


def _with_error(scores: Scored, course: pd.DataFrame) -> str:
    """The last score on earlier tasks, with its 95 % interval."""
    last = course.iloc[-1]
    value, error = float(last["old_mean"]), Z95 * float(last.get("old_mean_se", np.nan))
    return f"{_value(scores, value)} ± {_drop(scores, error)}" if np.isfinite(error) else _value(scores, value)


def _drop(scores: Scored, value: float) -> str:
    """A difference of scores: points of a share, else in the metric's unit."""
    return f"{num(100 * value)} points" if is_share(scores.metric) else f"{num(value)} {scores.unit}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
