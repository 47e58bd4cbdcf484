"""The form of a plan: base, updates in order, probes, settings. Its content outlasts a visit of other pages.

Streamlit has no drag and drop; two buttons a row move an update up and down, with mouse and keyboard alike.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import streamlit as st

from gcwm_viz.checkpoints.hub import HUB_ID, local_folder, splits
from gcwm_viz.checkpoints.location import is_remote
from gcwm_viz.continual.config import AUTO, RunSettings, fixed
from gcwm_viz.continual.plan_file import RunPlan, parse_plan
from gcwm_viz.errors import InputError
from gcwm_viz.experiments import lab, smollm2
from gcwm_viz.geometry.config import DEFAULT_PRESET, PRESETS
from gcwm_viz.merging.registry import METHODS
from gcwm_viz.probes.tasks import GENERAL, GENERAL_TEXT
from gcwm_viz.ui import folder_picker, setting_fields, trouble
from gcwm_viz.ui.roots import allowed_roots, allowed_url, within
from gcwm_viz.updates.choice import Choice
from gcwm_viz.updates.sequence import STATES, in_sequence, named, read_as
from gcwm_viz.updates.strength import WHOLE, checked, from_text

ROWS, SERIAL, PROBLEM, CHOICE = "start-rows", "start-serial", "start-problem", "start-choice"
GIVEN = "start-states"
"""Folders of the states of a training, in order; with them a run describes it and merges nothing."""


def name_key(row: int) -> str:
    return f"start-name-{row}"


def path_key(row: int) -> str:
    return f"start-path-{row}"


def strength_key(row: int) -> str:
    return f"start-strength-{row}"


def chooses_key(preset: str) -> str:
    return f"start-chooses-eta-{preset}"


def fill(plan: RunPlan) -> None:
    """Put ``plan`` into the form. Call it in a callback, before the form is drawn."""
    state = st.session_state
    state["start-base"], state["start-probes"] = str(plan.base), str(plan.probes or "")
    state[ROWS], state[GIVEN], state[CHOICE] = [], [str(path) for path in plan.states], plan.choice
    for name, path in plan.updates:
        add_row(name, str(path), plan.strengths.get(name, WHOLE))
    state["start-preset"], state["start-method"] = plan.preset, plan.method
    declared = RunSettings.preset_with(plan.preset, {}, plan.method).declared()
    # A plan may write 1 for a decimal, but its field takes 1.0 alone.
    settings = {
        name: float(value) if declared[name].kind is float and isinstance(value, int) else value
        for name, value in plan.settings.items()
        if name in declared
    }
    setting_fields.fill(fixed(settings), plan.preset, plan.method)
    default = AUTO if plan.preset == DEFAULT_PRESET else None
    state[chooses_key(plan.preset)] = plan.settings.get("eta", default) == AUTO


def add_row(name: str = "", path: str = "", strength: float = WHOLE) -> None:
    state = st.session_state
    row = state[SERIAL] = state.get(SERIAL, 0) + 1
    state[name_key(row)], state[path_key(row)] = name, path
    state[strength_key(row)] = "" if strength == WHOLE else repr(float(strength))
    state[ROWS] = [*state.get(ROWS, []), row]


def move_row(index: int, by: int) -> None:
    """Move the update at ``index`` (from 0) up (``by`` = -1) or down (1)."""
    rows = list(st.session_state[ROWS])
    if 0 <= index + by < len(rows):
        rows[index], rows[index + by] = rows[index + by], rows[index]
    st.session_state[ROWS] = rows


def drop_row(row: int) -> None:
    st.session_state[ROWS] = [other for other in st.session_state[ROWS] if other != row]


def show() -> RunPlan | None:
    """The form; returns the plan it describes, or None with a line that says what is missing."""
    if ROWS not in st.session_state:
        add_row()
        add_row()
    _fillers()
    st.text_input("Base model (folder or hub id)", key="start-base", persist_state="session",
                  placeholder="models/base", help="In safetensors; org/name@revision from the cache")  # fmt: skip
    st.markdown("**Updates, in order of arrival**",
                help="Strength: what an update is multiplied by before anything else; 0.5 takes a half")  # fmt: skip
    _rows()
    _given()
    st.text_input("Probes (folder, optional)", key="start-probes", persist_state="session", placeholder="none",
                  help=f"Folders dev, test, representation of .jsonl files; {GENERAL_TEXT}: the texts that come with "
                  "the package; without probes nothing is scored")  # fmt: skip
    preset, method, settings = _settings()
    return _plan(preset, method, settings)


def _fillers() -> None:
    """Three ways to fill the form at once: the lab's inputs, a plan file, folders."""
    with st.expander("Fill this in from the lab, a plan file or folders"):
        small, plan = st.columns(2, gap="medium")
        with small:
            st.caption("The small model that comes with the project: six skills, probes included.")
            st.button("Use the lab's inputs", on_click=_use_lab, width="stretch")
        plan.file_uploader("Plan (YAML, absolute paths)", ["yaml", "yml"], key="start-upload", on_change=_use_upload)
        folder_picker.show(_take, _take_base)
        if st.session_state.get(PROBLEM):
            trouble.show("This could not be filled in:", st.session_state[PROBLEM])


@contextmanager
def _problem_kept() -> Iterator[None]:
    """Keep what a filler cannot read for the next drawing of the form: a callback draws nothing itself."""
    st.session_state[PROBLEM] = ""
    try:
        yield
    except (InputError, OSError) as error:
        st.session_state[PROBLEM] = str(error)


@_problem_kept()
def _use_lab() -> None:
    from gcwm_viz.experiments.lab.bundle import locate  # loads transformers, which the form itself does not need

    bundle = locate()
    fill(RunPlan(base=bundle.base, updates=tuple(bundle.updates.items()), probes=bundle.probes))


@_problem_kept()
def _use_upload() -> None:
    upload = st.session_state.get("start-upload")
    if upload is None:
        return
    plan = parse_plan(upload.getvalue(), upload.name[:80])
    for path in filter(None, (plan.base, *(path for _, path in plan.updates), *plan.states, plan.probes)):
        if is_remote(path):
            allowed_url(str(path))
    plan.run_settings()
    fill(plan)


def _take(folders: list[Path]) -> None:
    states = in_sequence(folders)
    updates, given = [(path.name, path) for path in folders], list[Path]()
    if states:
        updates, given = read_as(st.session_state.get(folder_picker.READING, STATES), states)
    for row in list(st.session_state[ROWS]):
        blank = not st.session_state[name_key(row)] and not st.session_state[path_key(row)]
        if blank or states:  # the whole of a training, in place of what was read as something else
            drop_row(row)
    st.session_state[GIVEN] = [str(path) for path in given]
    for name, path in updates:
        add_row(name, str(path))


def _take_base(folder: Path) -> None:
    st.session_state["start-base"] = str(folder)


def _given() -> None:
    """That states are given, and the way back."""
    if given := st.session_state.get(GIVEN):
        said, back = st.columns([4, 1], vertical_alignment="center")
        said.text(f"The states {named(list(map(Path, given)))} are given: the run describes this training and merges "
                  "nothing.")  # fmt: skip
        back.button("Merge instead", on_click=lambda: st.session_state.update({GIVEN: []}), width="stretch")


def _rows() -> None:
    rows = st.session_state[ROWS]
    for index, row in enumerate(rows):
        boxes = st.columns([0.3, 2.1, 3.8, 1.1, 0.7, 0.85, 1.05], vertical_alignment="center", gap="small")
        boxes[0].markdown(f"{index + 1}")
        boxes[1].text_input(f"Name of update {index + 1}", key=name_key(row), persist_state="session",
                            placeholder="name", label_visibility="collapsed")  # fmt: skip
        boxes[2].text_input(f"Folder of update {index + 1}", key=path_key(row), persist_state="session",
                            placeholder="folder: checkpoint, LoRA adapter or update tensors",
                            label_visibility="collapsed")  # fmt: skip
        boxes[3].text_input(f"Strength of update {index + 1}", key=strength_key(row), persist_state="session",
                            placeholder="strength 1", label_visibility="collapsed")  # fmt: skip
        boxes[4].button("Up", key=f"up-{row}", help=f"Move update {index + 1} up", on_click=move_row,
                        args=(index, -1), disabled=index == 0, width="stretch")  # fmt: skip
        boxes[5].button("Down", key=f"down-{row}", help=f"Move update {index + 1} down", on_click=move_row,
                        args=(index, 1), disabled=index == len(rows) - 1, width="stretch")  # fmt: skip
        boxes[6].button("Remove", key=f"drop-{row}", help=f"Remove update {index + 1}", on_click=drop_row, args=(row,),
                        width="stretch")  # fmt: skip
    st.button("Add an update", on_click=add_row)
    if words := st.session_state.get(CHOICE, Choice()).words:
        st.caption(f"Target matrices as the plan has them: {words}")


def _settings() -> tuple[str, str, dict[str, object]]:
    left, right, _ = st.columns([1, 2, 1])
    preset = left.selectbox("Preset", list(PRESETS), key="start-preset", persist_state="session",
                            format_func=lambda name: f"{name}: {PRESETS[name].summary}")  # fmt: skip
    method = right.selectbox("Method", list(METHODS), key="start-method", persist_state="session",
                             format_func=lambda name: f"{name}: {METHODS[name].summary}")  # fmt: skip
    defaults = RunSettings.preset_with(preset, {}, method)
    st.session_state.setdefault(chooses_key(preset), preset == DEFAULT_PRESET)
    chooses = st.toggle(
        "Choose η on the development probes", key=chooses_key(preset), persist_state="session",
        help="Before the run, seven strengths of the final merge are scored on them. Off: η has a field of its own.",
    )  # fmt: skip
    main = [*METHODS[method].settings.names(), *METHODS[method].main, "lam"]
    settings = setting_fields.show(main if chooses else ["eta", *main], defaults)
    settings["eta"] = AUTO if chooses else settings.get("eta", defaults.continual.eta)
    with st.expander("All settings"):
        st.caption("Values start from the preset; the question mark explains each setting.")
        rest = [name for name in defaults.single() if name not in ("eta", *main)]
        settings |= setting_fields.show(rest, defaults)
    return preset, method, settings


def _plan(preset: str, method: str, settings: dict[str, object]) -> RunPlan | None:
    state = st.session_state
    keys = (name_key, path_key, strength_key)
    rows = [tuple(state[key(row)].strip() for key in keys) for row in state[ROWS]]
    updates = [(name, path) for name, path, _ in rows if name or path]
    base, probes = state["start-base"].strip(), state["start-probes"].strip()
    if not probes and settings["eta"] == AUTO:
        settings = fixed(settings)  # the run then takes the default without probes
    missing = [
        *(["the base"] if not base else []),
        *(["at least one update"] if not updates else []),
        *(["a name and a folder for every update"] if any(not name or not path for name, path in updates) else []),
    ]
    if missing:
        st.caption(f"Still missing: {', '.join(missing)}.")
        return None
    try:
        roots = [*allowed_roots(), *(Path(part).resolve() for part in (*lab.__path__, *smollm2.__path__))]
        plan = RunPlan(
            base=_input(base, roots),
            updates=tuple((name, _input(path, roots)) for name, path in updates),
            strengths={name: checked(from_text(strength), name) for name, _, strength in rows if name and strength},
            states=tuple(_input(path, roots) for path in state.get(GIVEN, [])), choice=state.get(CHOICE, Choice()),
            preset=preset, method=method, settings=settings, probes=_probes(probes, roots) if probes else None,
        )  # fmt: skip
        plan.run_settings()
        # The run reads the plan from its file, so the file must read back.
        return replace(parse_plan(plan.to_yaml().encode(), "of this form"), settings=settings)
    except InputError as error:
        trouble.show("This cannot be run:", error)
        return None


def _probes(text: str, roots: list[Path]) -> Path:
    return GENERAL if text == GENERAL_TEXT else within(text, roots)


def _input(text: str, roots: list[Path]) -> Path:
    """A base or update from its field: a folder within ``roots``, a hub id of the cache, a pair of these, or a
    URL that was allowed at the start."""
    for parts in ((text,), *splits(text)):
        if any(map(HUB_ID.fullmatch, parts)) and "://" not in text:
            try:
                named = [local_folder(part, cached_only=True) if HUB_ID.fullmatch(part) else part for part in parts]
            except InputError:
                if len(parts) == 1:
                    raise
                continue
            return within("".join(map(str, named)), roots)
    return within(text, roots)
