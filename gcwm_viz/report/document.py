"""The report of a run: inputs, story, results, place of forgetting, conflict, gate, solver, and what to integrate."""

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.attribution.worst import worst_step
from gcwm_viz.continual.run_file import InputEntry
from gcwm_viz.decide.outlook import Outlook
from gcwm_viz.decide.plans import outlook_if_any
from gcwm_viz.decide.rows import level_rows, measured_rows
from gcwm_viz.decide.sentences import SCALE, basis, plan_words
from gcwm_viz.errors import InputError
from gcwm_viz.figures import (
    angles,
    attribution_map,
    attribution_multiples,
    barycenter_path,
    depth_profile,
    expected_levels,
    family_share,
    forecast_measured,
    forgetting,
    gate_curve,
    pair_matrix,
    representation,
    retention,
    score_heatmap,
    solver_path,
    spectrum,
    step_multiples,
    step_trend,
)
from gcwm_viz.figures.about import About
from gcwm_viz.figures.bounds import bounds
from gcwm_viz.figures.layer_grid import grid_axes, layer_grid
from gcwm_viz.figures.theme import margin, num, percent
from gcwm_viz.probes.scores import forgetting_matrix
from gcwm_viz.report.markup import Page, flat
from gcwm_viz.report.story import story
from gcwm_viz.runs.highlights import Scored, peak, scored
from gcwm_viz.runs.tables import Run
from gcwm_viz.signals.catalogue import ACTIVE, ALPHA, INCOMING, STATE, on_page, summarised
from gcwm_viz.updates.strength import WHOLE

_COURSE = {
    "overall": "overall",
    "old_mean": "earlier tasks",
    "current": "arriving task",
    "forgetting": "forgetting",
    "bwt": "backward transfer",
}


def report(run: Run) -> str:
    """The HTML of a run with at least one finished step, read from its tables alone.

    Inputs are named by folder name and fingerprint; the report contains no path of this machine and can be shared.
    Raises :class:`InputError` while no step is finished.
    """
    matrices = run.tables["matrices"]
    if matrices.empty:
        raise InputError(f"{run.path}: no step is finished, so there is nothing to report; resume the run first")
    scores, outlook = scored(run), outlook_if_any(run)
    page = Page(f"Geometry conflict: {run.store.file.name or run.path.name}")
    _what_was_run(page, run)
    _headline(page, run, scores, outlook)
    _where(page, run)
    _conflict(page, run)
    last = matrices[matrices["step"] == matrices["step"].max()]
    _gate(page, run, last)
    _one_matrix(page, run, last)
    _scores(page, run, scores)
    _updates_to_take(page, run, outlook)
    _notes(page, run)
    return page.document()


def _what_was_run(page: Page, run: Run) -> None:
    settings, file = run.store.settings, run.store.file
    post = settings.continual.post_in_words and f", every merge followed by {settings.continual.post_in_words}"
    page.paragraph(
        f"{run.steps} updates, merged one after another into one base model by {settings.method} (preset "
        f"{settings.preset}){post}. Method: Geometry Conflict, arXiv 2605.09608. All conflicts are between 0 (same "
        "geometry) and 1 (unrelated); n/a marks what is not defined."
    )
    page.section("What was run")
    listed = [("base", file.base, "")]
    listed += [(f"update {n}: {update.name}", update, _kind(update)) for n, update in enumerate(file.updates, start=1)]
    listed += [(state.name, state, "given state") for state in file.states]
    rows = [(name, entry.folder, kind, entry.fingerprint[:16]) for name, entry, kind in listed]
    page.table(("input", "folder", "kind", "fingerprint"), rows, words=4)
    versions = [(f"version of {name}", value) for name, value in file.versions.items()]
    page.table(("setting", "value"), [*flat(settings.to_dict()), *versions], words=2, fold="All settings and versions")


def _kind(update: InputEntry) -> str:
    return update.kind if update.strength == WHOLE else f"{update.kind}, taken at strength {update.strength:g}"


def _headline(page: Page, run: Run, results: Scored | None, outlook: Outlook | None) -> None:
    page.section("In short")
    for sentence in story(run, outlook):
        page.paragraph(sentence.text)
    entries = []
    if results is not None:
        last, base = results.downstream.iloc[-1], results.downstream["overall"].get(0, float("nan"))
        better = "higher" if results.higher_is_better else "lower"
        entries += [
            (
                "Overall at the end",
                num(last["overall"]),
                f"{margin(last.get('overall_se', np.nan))} (95 %), {results.unit}, {better} = better",
            ),
            ("Base model", num(base), "the same probes before any update"),
            ("Experts", num(results.own.mean()), "each on its own task, for comparison"),
            ("Forgetting", num(last["forgetting"]), "best earlier score lost, mean over earlier tasks"),
        ]
    steps, top = run.tables["steps"], peak(run.tables["matrices"])
    entries.append(("Mean conflict at the end", num(steps["active_conflict"].iloc[-1]), "active, over all matrices"))
    if top is not None:
        where = f"layer {top['layer']}, {top['family']}, step {top['step']}"
        entries.append(("Highest conflict", num(top["active_conflict"]), where))
    page.key_figures(entries)
    course = None if results is None else results.downstream
    unit = "score" if results is None else results.unit
    page.charts([(step_trend.step_trend(steps, course, unit=unit), step_trend.ABOUT)])
    rows = []
    for step in steps.to_dict("records"):
        scores = {} if course is None or step["step"] not in course.index else course.loc[step["step"]]
        rows.append(
            [
                str(int(step["step"])),
                str(step["update"]),
                *(num(scores.get(name)) for name in _COURSE),
                *(num(step[signal.column]) for signal in summarised()),
            ]
        )
    head = ["step", "update", *_COURSE.values(), *(signal.title for signal in summarised())]
    page.table(head, rows, words=2, fold="The same as numbers")


def _where(page: Page, run: Run) -> None:
    page.section("Where forgetting is")
    rows = run.tables["attribution"]
    worst = worst_step(rows, run.updates)
    if worst is None:
        why = "At no step did the loss of an earlier task rise." if len(rows) else "It was not computed for this run."
        page.paragraph(why)
        return
    axes, chosen = grid_axes(run.tables["matrices"]), worst.rows(rows)
    chosen = chosen[chosen["task"] == worst.task]
    figure = attribution_map.attribution_map(chosen, label=worst.task, axes=axes, outlined=worst.half)
    page.paragraph("Outlined: the matrices that did half of the harm.")
    page.charts([(figure, attribution_map.ATTRIBUTION)])
    rows = rows[(rows["split"] == worst.split) & (rows["start"] == rows["step"] - 1)]
    every = attribution_multiples.attribution_multiples(rows, order=run.updates, axes=axes)
    page.charts([(every, attribution_multiples.ABOUT)])


def _updates_to_take(page: Page, run: Run, outlook: Outlook | None) -> None:
    page.section("Which updates to integrate")
    if outlook is None:
        page.paragraph("There is no forecast: it was not computed, or none fits this run.")
        return
    page.paragraph(f"{plan_words(outlook)} {basis(outlook)} {SCALE}")
    if outlook.outside:
        return
    unit = "exact match or accuracy" if not math.isnan(outlook.base) else "change of exact match or accuracy"
    levels, plans = level_rows(outlook), measured_rows(outlook)
    page.charts(
        [
            (expected_levels.expected_levels(levels, unit), expected_levels.ABOUT),
            (forecast_measured.forecast_measured(plans, unit), forecast_measured.ABOUT),
        ],
        columns=2,
    )


def _conflict(page: Page, run: Run) -> None:
    page.section("Where the geometries conflict")
    page.paragraph("Layers downwards, module families across, after the last step.")
    matrices, pairs = run.tables["matrices"], run.tables["pairs"]
    axes, top = grid_axes(matrices), peak(matrices)
    limits = {s.column: bounds(matrices[s.column], diverging=s.diverging, fit=True) for s in on_page("Conflict")}
    step = int(matrices["step"].max())
    cells = matrices[matrices["step"] == step]
    chosen = None if top is None else (int(top["layer"]), str(top["family"]))
    page.charts(
        ((layer_grid(cells, s, axes=axes, limits=limits[s.column], chosen=chosen), s) for s in on_page("Conflict")),
        columns=3,
    )
    over_steps = step_multiples.step_multiples(matrices, ACTIVE, axes, limits[ACTIVE.column])
    page.charts([(over_steps, step_multiples.ABOUT)])
    squares = (
        (_square(pairs, step, run.updates, about, value), about)
        for about, value in ((pair_matrix.ABOUT, "conflict"), (pair_matrix.OVERLAP, "sar"))
    )
    shares = family_share.family_shares(matrices, ACTIVE.column, 20)
    drawn = (ACTIVE, STATE, INCOMING)
    rest = [
        (depth_profile.depth_profile(cells, drawn), depth_profile.ABOUT),
        (family_share.family_share(shares, ACTIVE), family_share.ABOUT),
    ]
    page.charts([*squares, *rest], columns=2)


def _gate(page: Page, run: Run, last: pd.DataFrame) -> None:
    page.section("The gate")
    if last["alpha"].isna().all():
        page.paragraph("This run has no gate: its method merges directly, or its states come from training.")
        return
    modes = ", ".join(f"{count} {mode}" for mode, count in last["mode"].value_counts().items())
    page.paragraph(f"Mean α after the last step {num(last['alpha'].mean())}. Matrices by what they took: {modes}.")
    config, axes = run.store.settings.gcwm, grid_axes(last)
    page.charts(
        [
            (gate_curve.gate_curve(last, config), gate_curve.ABOUT),
            (layer_grid(last, ALPHA, axes=axes, limits=(0, 1)), ALPHA),
        ],
        columns=2,
    )


def _one_matrix(page: Page, run: Run, last: pd.DataFrame) -> None:
    top = peak(run.tables["matrices"])
    row = last.iloc[0] if top is None else top
    which = "first" if top is None else "most conflicted"
    page.section(f"The {which} matrix")
    page.paragraph(f"{row['matrix']} after step {row['step']}, which adds {row['update']}.")
    tables = {name: _at(run.tables[name], row) for name in ("spectra", "pairs", "barycenter", "solver")}
    config = run.store.settings.gcwm
    page.charts(
        [
            (spectrum.spectrum(tables["spectra"], row["lambda_share"]), spectrum.ABOUT),
            (spectrum.energy(tables["spectra"]), spectrum.ENERGY),
            (angles.angles(tables["pairs"], str(row["update"])), angles.ABOUT),
            (barycenter_path.barycenter_path(tables["barycenter"], config.barycenter_tol), barycenter_path.ABOUT),
        ],
        columns=2,
    )
    page.section("The inner solver")
    if last["plain_shift"].isna().all():
        page.paragraph("This run has no inner solver: its method merges directly, or its states come from training.")
        return
    page.paragraph(
        f"Solver {config.solver}. Median distance from the plain sum of updates: plain branch "
        f"{percent(last['plain_shift'].median())}, geometry branch {percent(last['geo_shift'].median())}. Below, the "
        "same matrix as above."
    )
    if tables["solver"]["iteration"].max() <= 1:
        for branch, name in solver_path.BRANCHES.items():
            page.paragraph(solver_path.solved_at_once(row, branch, name))
        return
    minima = {branch: row[f"{branch}_minimum"] for branch in solver_path.BRANCHES}
    page.charts(
        [
            (solver_path.objective_path(tables["solver"], minima), solver_path.OBJECTIVE),
            (solver_path.shift_path(tables["solver"]), solver_path.SHIFT),
        ],
        columns=2,
    )


def _scores(page: Page, run: Run, results: Scored | None) -> None:
    page.section("Scores")
    if results is None:
        page.paragraph("This run was not scored: it was started without probes.")
        return
    R, better = results.R, results.higher_is_better
    page.paragraph(f"Test probes, {results.unit}; intervals are 95 % over examples.")
    figure = score_heatmap.score_heatmap(R, results.errors, results.own, order=run.updates, higher_is_better=better)
    page.charts([(figure, score_heatmap.ABOUT)])
    page.charts(
        [(retention.retention(R, results.errors, results.own, order=run.updates, unit=results.unit), retention.ABOUT)]
    )
    step = int(R.index.max())
    lost = forgetting_matrix(R, higher_is_better=better)
    earlier = [name for name in run.updates[: step - 1] if name in lost]
    charts: list[tuple[go.Figure, About]] = [
        (forgetting.forgetting_by_task(lost.reindex([step])[earlier].iloc[0]), forgetting.BY_TASK),
        (forgetting.forgetting_course(results.downstream), forgetting.COURSE),
    ]
    page.charts(charts, columns=2)
    probes = run.tables["representation"]
    for dataset, rows in probes.groupby("dataset", sort=False):
        page.paragraph(f"Labelled set of the next chart: {dataset}")
        figure = representation.representation(rows, step=step, expert=run.updates[step - 1])
        page.charts([(figure, representation.ABOUT)])


def _notes(page: Page, run: Run) -> None:
    page.section("Notes")
    notes = list(run.store.file.notes)
    updates = run.tables["updates"]
    notes += [f"{name}: {note}" for name, note in zip(updates["update"], updates["note"], strict=True) if note]
    matrices = run.tables["matrices"]
    reasons = matrices.loc[matrices["reason"].astype(bool), "reason"].value_counts()
    notes += [f"{reason} ({count} of {len(matrices)} step and matrix cells)" for reason, count in reasons.items()]
    for note in dict.fromkeys(notes):
        page.paragraph(note)
    if not notes:
        page.paragraph("Nothing was left undefined, and the check of the inputs had no remark.")


def _square(pairs: pd.DataFrame, step: int, names: list[str], about: About, value: str) -> go.Figure:
    top = bounds(pairs["conflict" if value == "conflict" else "sar_ij"])[1]
    return pair_matrix.pair_matrix(pair_matrix.pair_values(pairs[pairs["step"] == step], names, value), about, top)


def _at(table: pd.DataFrame, row: pd.Series) -> pd.DataFrame:
    rows: pd.DataFrame = table[(table["step"] == row["step"]) & (table["matrix"] == row["matrix"])]
    return rows
