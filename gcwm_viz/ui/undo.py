"""The part of the page Where that puts matrices back: which, what that brings, and the model that results.

The app scores with the run's model in its own process, so an answer takes a second on a small model.
"""

import time
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from gcwm_viz.attribution.search import rank
from gcwm_viz.errors import InputError
from gcwm_viz.figures import restoration as restoration_figure
from gcwm_viz.figures.theme import margin, num, percent
from gcwm_viz.jobs import jobs
from gcwm_viz.jobs.attribution import cells_json, restore_job, restored_folder, write_cells
from gcwm_viz.probes.metrics import METRICS, UNITS, offered
from gcwm_viz.ui import charts, job_card
from gcwm_viz.ui.cell_choice import KEY, Cell, cells_of, label_of, members, replace_by, text_of
from gcwm_viz.ui.live import live_model, obstacle
from gcwm_viz.ui.looked import Looked
from gcwm_viz.ui.roots import run_root
from gcwm_viz.ui.scoring import choose_measure
from gcwm_viz.ui.text import as_markdown
from gcwm_viz.ui.undo_search import found, restoration_of, search_form

Names = dict[Cell, list[str]]
_RESULT = "undo-result"


def show(looked: Looked) -> None:
    """The controls, and what came of the cells that were undone last."""
    st.header("Undo", anchor=False)
    try:
        reason = obstacle(looked.view.run)
    except InputError as error:  # inputs that are gone: the pictures on this page need none
        reason = str(error)
    if reason:
        st.text(f"The app cannot load this run's model: {reason}")
        return
    names = names_of(looked)
    cells, share = _choose(looked, names)
    result = st.session_state.get(_RESULT)
    if result and result[0] == _question(looked, cells, share):
        _answer(looked, result[1], result[2], cells, share)
    elif cells:
        st.caption("Not scored yet: “Undo these” puts the chosen matrices back and scores the model.")
    found(looked)


def names_of(looked: Looked) -> Names:
    """The matrices of every cell of the path; all tensors outside the targets share one place."""
    places = looked.rows.drop_duplicates("matrix")
    names: Names = {}
    for layer, family, matrix in zip(places["layer"], places["family"], places["matrix"], strict=True):
        names.setdefault((int(layer), str(family)), []).append(str(matrix))
    return names


def _choose(looked: Looked, names: Names) -> tuple[list[Cell], float]:
    """The chosen cells and the share of the step that is undone in them."""
    families = members(looked.view.axes)
    own = {text: cells_of(text, families) for text in st.session_state[KEY]}
    here = [text for text, cells in own.items() if names.keys() >= set(cells)]
    if here != list(own):  # the others are no longer selected
        st.session_state[KEY] = here
    cells = list(dict.fromkeys(cell for text in here for cell in own[text]))
    by_matrix = {matrix: cell for cell, own in names.items() for matrix in own}
    ranked = list(dict.fromkeys(by_matrix[matrix] for matrix in rank(looked.rows, looked.tasks)))
    st.multiselect(
        "Matrices to undo: the selected cells", list(dict.fromkeys([*(text_of(*cell) for cell in names), *here])),
        key=KEY, format_func=label_of, placeholder="Click cells in a map above, or choose here",
    )  # fmt: skip
    boxes = st.columns([1, 1.4, 1, 1.1, 1.6], vertical_alignment="bottom")
    most = max(len(ranked), 1)
    k = int(boxes[0].number_input("The k worst", 1, most, min(5, most), key=f"undo-k-{most}"))
    label = f"Choose the {f'{k} ' if k > 1 else ''}worst" if ranked else "No matrix did harm"
    boxes[1].button(
        label,
        on_click=replace_by,
        args=(ranked[:k],),
        disabled=not ranked,
        width="stretch",
        help="Of the tasks chosen above, by attribution.",
    )
    boxes[2].button("Choose none", on_click=replace_by, args=([],), width="stretch")
    share = float(boxes[3].number_input("Share undone", 0.0, 1.0, 1.0, step=0.1, key="undo-share"))
    if boxes[4].button("Undo these", type="primary", disabled=not cells or share == 0, width="stretch"):
        _score(looked, names, cells, share)
    with st.expander("Find the smallest set that brings a share back"):
        search_form(looked, by_matrix)
    return cells, share


def _score(looked: Looked, names: Names, cells: Sequence[Cell], share: float) -> None:
    with live_model(looked.view.run) as model:
        begin = time.perf_counter()
        shares = {matrix: share for cell in cells for matrix in names[cell]}
        rows = restoration_of(looked, model).score(shares)
    st.session_state[_RESULT] = _question(looked, cells, share), rows, time.perf_counter() - begin


def _question(looked: Looked, cells: Sequence[Cell], share: float) -> tuple[object, ...]:
    """What a result answers."""
    return str(looked.view.run.path), looked.ends, tuple(sorted(cells)), share


def _answer(looked: Looked, rows: pd.DataFrame, seconds: float, cells: Sequence[Cell], share: float) -> None:
    """What came back, what it cost, and the model as a file."""
    splits = list(dict.fromkeys(rows["split"]))
    split, metric = choose_measure("Split", splits, offered(rows), splits[-1], key="undo")
    own = rows[rows["split"] == split]
    st.markdown(sentence(own, metric, cells, looked))
    if split == looked.split:
        st.caption("The attribution that chooses the cells is of this split too: the other one is the check.")
    figure = restoration_figure.restoration(own, metric=metric, unit=UNITS[metric])
    charts.show(figure, restoration_figure.ABOUT, own, key="restoration", note=f"Scored in {seconds:.1f} s.")
    _export(looked, cells, share)


def sentence(own: pd.DataFrame, metric: str, cells: Sequence[Cell], looked: Looked) -> str:
    """What undoing ``cells`` brought; ``own``: rows of one split of the scores."""
    rows = own[own["metric"] == metric]
    loss = own[own["metric"] == "nll"]
    places = looked.rows.drop_duplicates("matrix")
    chosen = [cell in cells for cell in zip(places["layer"].astype(int), places["family"], strict=True)]
    words = [f"Undoing {sum(chosen)} of {len(places)} matrices"]
    earlier = loss[loss["role"] == "earlier"]
    lost = float((earlier["after"] - earlier["before"]).sum())
    if lost > 0:
        back = -float(earlier["change"].sum()) / lost
        words.append(
            f"takes back {percent(back)} of the rise of the earlier tasks' loss"
            if back >= 0
            else f"raises the earlier tasks' loss by another {percent(-back)} of its rise"
        )
    better = 1 if METRICS[metric] else -1
    moved = []
    for row in rows.sort_values("change", key=lambda change: -change.abs()).to_dict("records")[:3]:
        if row["change"] != 0:
            word = "better" if better * row["change"] > 0 else "worse"
            moved.append(
                f"{as_markdown(row['task'], 24)} {num(row['after'])} → {num(row['restored'])} "
                f"({word} by {num(abs(row['change']))} {margin(row['change_se'])})"
            )
    given_up = _given_up(loss)
    text = " ".join(words) + (f" and gives up {given_up}." if given_up else ".")
    return f"{text} {UNITS[metric].capitalize()}: {'; '.join(moved)}." if moved else f"{text} No score moves."


def _given_up(loss: pd.DataFrame) -> str:
    """What undoing costs the tasks that arrived, as a share of what the path brought them; empty where it cost none."""
    arrived = loss[loss["role"] == "arrived"]
    gained = float((arrived["before"] - arrived["after"]).sum())
    cost = float(arrived["change"].sum())
    if not (gained > 0 and cost > 0):
        return ""
    whose = f"{as_markdown(arrived['task'].iloc[0], 24)}'s gain" if len(arrived) == 1 else "the arrived tasks' gain"
    return f"{percent(cost / gained)} of {whose}"


def _export(looked: Looked, cells: Sequence[Cell], share: float) -> None:
    run, root = looked.view.run.path, run_root()
    spec = restore_job(root, run, looked.ends, cells, share)
    job = jobs.look(root, spec.name)
    out = restored_folder(run, looked.ends, cells, share)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Download the choice", cells_json(cells, share), "cells.json", "application/json", on_click="ignore"
        )
        if job.status != "running" and not out.exists() and st.button("Write this model", key="restore-start"):
            write_cells(spec, cells, share)
            jobs.start(root, spec.name, spec.arguments)
            st.rerun()
    if job.status == "running":
        job_card.watch(root, spec)
    elif out.exists():
        st.text(f"Written to {out}")
    else:
        job_card.show_ending(spec, job)
