"""Talk mode: five screens, one figure and one sentence each, every number read from the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from gcwm_viz.errors import InputError
from gcwm_viz.figures import gate_curve, layer_grid, retained, task_scores
from gcwm_viz.figures.bounds import bounds
from gcwm_viz.figures.theme import num, percent
from gcwm_viz.probes.metrics import is_share
from gcwm_viz.runs.highlights import Scored, peak, scored
from gcwm_viz.runs.tables import Run
from gcwm_viz.signals.catalogue import ACTIVE
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.loading import load_run, run_names
from gcwm_viz.ui.text import as_markdown
from gcwm_viz.ui.whatif import UNGATED

SCREEN = "screen"
HEIGHT = 560
MAX_OTHERS = 30
_UNSCORED = "This run was started without probes, so nobody knows what its models can do."
_STYLE = """<style>
[data-testid=stMainBlockContainer] h1 {font-size: 2.6rem}
.st-key-talk-sentence p {font-size: 1.6rem; line-height: 1.45; max-width: 62rem}
</style>"""


@dataclass(frozen=True)
class Screen:
    """title and sentence are Markdown with names escaped; ``figure`` is None where something is missing."""

    title: str
    sentence: str
    figure: go.Figure | None = None
    alt: str = ""


def the_base(view: View, root: Path) -> Screen:
    """What the base can do before anything is merged."""
    found, title = scored(view.run), "Before: what the base can do"
    if found is None or 0 not in found.R.index:
        return Screen(title, _UNSCORED)
    base, own = _row(found.R, 0), found.own
    models = {"base": (base, _row(found.errors, 0)), "each task's own expert": (own, None)}
    sentence = (
        f"The base {_scores(found, base.mean())}. "
        f"{_count(len(view.run.updates), 'update')}, trained alone on one task each, reach "
        f"**{_value(found, own.mean())}** on their own task. Can one model have them all?"
    )
    return Screen(title, sentence, task_scores.task_scores(models, unit=found.unit, height=HEIGHT), sentence)


def one_after_another(view: View, root: Path) -> Screen:
    """What remains of earlier tasks when updates arrive one after another."""
    found, title = scored(view.run), "One after another: what is kept of earlier tasks"
    if found is None:
        return Screen(title, _UNSCORED)
    if len(view.run.updates) < 2:
        return Screen(title, "This run has a single update: nothing came earlier that could be forgotten.")
    courses = {_label(view.run): found.downstream["old_mean"]}
    other = _trained(view.run, root)
    course = None if other is None else scored(other)
    if other is not None and course is not None:
        courses[_label(other)] = course.downstream["old_mean"]
    last = [(name, float(values.iloc[-1])) for name, values in courses.items()]
    kept = _value(found, last[0][1])
    sentence = f"After {view.run.steps} steps, {as_markdown(last[0][0])} keeps **{kept}** on the earlier tasks"
    if len(last) > 1:
        sentence += f"; {as_markdown(last[1][0])} keeps **{_value(found, last[1][1])}**."
    elif view.run.store.file.states:
        sentence += ". This run is the training one after another itself."
    else:
        sentence += ". No run that was trained one after another with the same updates is beside it to compare with."
    return Screen(title, sentence, retained.retained(courses, unit=found.unit, height=HEIGHT), sentence)


def where_conflict_sits(view: View, root: Path) -> Screen:
    """Which matrices the updates disagree in."""
    title = "Where they disagree"
    cells = view.run.tables["matrices"]
    cells = cells[cells["step"] == cells["step"].max()]
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
    low_high = bounds(cells[ACTIVE.column], fit=True)
    figure = layer_grid.layer_grid(cells, ACTIVE, axes=view.axes, limits=low_high,
                                   chosen=(int(top["layer"]), str(top["family"])))  # fmt: skip
    figure.update_layout(height=HEIGHT)
    return Screen(title, sentence, figure, sentence)


def the_decision(view: View, root: Path) -> Screen:
    """What the gate makes of the conflict."""
    title = "The gate decides, matrix by matrix"
    cells = view.run.tables["matrices"]
    cells = cells[cells["step"] == cells["step"].max()]
    gated = cells[~cells["mode"].isin(UNGATED)]
    if gated.empty:
        return Screen(title, "This run has no gate: its method merges directly, or its states come from training.")
    if gated["conflict"].isna().all():
        return Screen(title, "No matrix of this run has a conflict, so the gate has nothing to decide by.")
    counts = gated["mode"].value_counts()
    parts = {"blend": "a blend", "geo": "the geometry branch alone", "plain": "the plain branch alone"}
    said = ", ".join(f"{counts[mode]} get {words}" for mode, words in parts.items() if mode in counts)
    sentence = (
        f"More conflict, more geometry: of {_count(len(gated), 'matrix', 'matrices')}, {said}. "
        f"On average **{percent(gated['alpha'].mean())}** of the geometry branch is used."
    )
    figure = gate_curve.gate_curve(gated, view.config)
    figure.update_layout(height=HEIGHT)
    figure.update_traces(marker={"size": 14}, selector={"mode": "markers"})
    return Screen(title, sentence, figure, sentence)


def what_was_kept(view: View, root: Path) -> Screen:
    """The final model against base and experts."""
    found, title = scored(view.run), "After: what was kept"
    if found is None or found.R.empty:
        return Screen(title, _UNSCORED)
    last = int(found.R.index[-1])
    end = _row(found.R, last)
    trained = bool(view.run.store.file.states)
    models = {
        "trained on all in turn" if trained else "one merged model": (end, _row(found.errors, last)),
        "each task's own expert": (found.own, None),
    }
    if 0 in found.R.index:
        models = {"base": (_row(found.R, 0), _row(found.errors, 0)), **models}
    forgotten = float(found.downstream["forgetting"].iloc[-1])
    lost = "" if np.isnan(forgotten) else f" Average drop from each task's best: **{_drop(found, forgotten)}**."
    sentence = (
        f"One model {_all(view.run, trained)} {_scores(found, end.mean())}; "
        f"the base {_value(found, models['base'][0].mean()) if 'base' in models else 'n/a'}, the experts on their own "
        f"tasks {_value(found, found.own.mean())}.{lost}"
    )
    return Screen(title, sentence, task_scores.task_scores(models, unit=found.unit, height=HEIGHT), sentence)


SCREENS: tuple[Callable[[View, Path], Screen], ...] = (
    the_base, one_after_another, where_conflict_sits, the_decision, what_was_kept,
)  # fmt: skip


def show(view: View, root: Path) -> None:
    """The chosen screen with its controls: buttons, the arrow keys, and a link for each screen."""
    st.html(_STYLE)
    numbers = list(range(1, len(SCREENS) + 1))
    with st.container(horizontal=True, vertical_alignment="center", key="talk-controls"):
        back, place, forward = (st.container(width="content") for _ in range(3))
    now = place.segmented_control("Screen", numbers, default=1, key=SCREEN, required=True, bind="query-params",
                                  label_visibility="collapsed")  # fmt: skip
    back.button("Back", shortcut="Left", on_click=turn, args=(-1,), disabled=now == 1)
    forward.button("Next", shortcut="Right", type="primary", on_click=turn, args=(1,), disabled=now == len(SCREENS))
    screen = SCREENS[now - 1](view, root)
    st.title(screen.title, anchor=False)
    with st.container(key="talk-sentence"):
        st.markdown(screen.sentence)
    if screen.figure is not None:
        enlarged = screen.figure.update_layout(title_text="", font_size=20, legend_font_size=20, margin_t=16)
        enlarged.update_annotations(font_size=20)
        enlarged.update_xaxes(title_font_size=20, tickfont_size=19)
        enlarged.update_yaxes(title_font_size=20, tickfont_size=19)
        st.plotly_chart(enlarged, key=f"talk-{now}", alt=plain(screen.alt),
                        config={"displaylogo": False, "displayModeBar": False})  # fmt: skip


def plain(text: str) -> str:
    """A sentence without Markdown's marks, for a screen reader."""
    return text.replace("**", "").replace("\\", "")


def turn(by: int) -> None:
    """Go ``by`` screens on."""
    now = st.session_state.get(SCREEN) or 1
    st.session_state[SCREEN] = min(max(int(now) + by, 1), len(SCREENS))


def _trained(run: Run, root: Path) -> Run | None:
    """A scored run beside ``run`` that describes training one after another with the same updates."""
    if run.store.file.states:
        return None
    for name in run_names(root)[:MAX_OTHERS]:
        try:
            other = load_run(root / name)
            if other.store.file.states and other.updates == run.updates and not other.tables["scores"].empty:
                return other
        except InputError:
            continue
    return None


def _label(run: Run) -> str:
    return "training one after another" if run.store.file.states else f"merging ({run.store.settings.method})"


def _row(table: pd.DataFrame, step: int) -> pd.Series:
    return pd.Series(table.loc[step])


def _scores(found: Scored, value: float) -> str:
    """What a model does, in the words of the metric."""
    if found.metric == "em":
        return f"answers **{percent(value)}** of the questions exactly"
    return (
        f"answers **{percent(value)}** of the questions rightly"
        if is_share(found.metric)
        else f"has **{num(value)}** {found.unit}"
    )


def _value(found: Scored, value: float) -> str:
    return percent(value) if is_share(found.metric) else f"{num(value)} {found.unit}"


def _drop(found: Scored, value: float) -> str:
    """A difference of scores: points of a share, else in the metric's unit."""
    return f"{num(100 * value)} points" if is_share(found.metric) else f"{num(value)} {found.unit}"


def _all(run: Run, trained: bool) -> str:
    if trained:
        return f"trained on {_count(len(run.updates), 'task')} one after another"
    return f"with all {_count(len(run.updates), 'update')}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
