"""What a plan would do, before anything starts: the answer of the command ``check``."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import streamlit as st

from gcwm_viz.continual.plan_file import RunPlan
from gcwm_viz.engines.memory import available_memory
from gcwm_viz.errors import InputError
from gcwm_viz.figures.theme import num
from gcwm_viz.jobs import jobs
from gcwm_viz.jobs.progress import duration
from gcwm_viz.probes.preflight import probe_words
from gcwm_viz.ui import trouble

LIMIT_SECONDS = 300.0
CHECKED = "start-checked"


def run_check(plan: RunPlan) -> dict[str, Any]:
    """``check --plan … --json`` as a process of its own: hostile inputs and a GPU's memory stay out of the server.

    Raises :class:`InputError` with the command's own sentence.
    """
    with tempfile.TemporaryDirectory(prefix="gcwm_viz-") as folder:
        file = Path(folder) / "plan.yaml"
        file.write_text(plan.to_yaml(), encoding="utf-8")
        try:
            process = subprocess.run(
                jobs.command(["check", "--plan", str(file), "--json"]),
                capture_output=True, text=True, timeout=LIMIT_SECONDS, stdin=subprocess.DEVNULL, env=jobs.environment(),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise InputError(f"the check took more than {LIMIT_SECONDS:.0f} s; try it in a shell") from None
    if process.returncode:
        lines = process.stderr.strip().splitlines()
        raise InputError(
            lines[-1].removeprefix("gcwm_viz: ") if lines else f"the check exited with {process.returncode}"
        )
    answer: dict[str, Any] = json.loads(process.stdout.strip().splitlines()[-1])
    return answer


def show(plan: RunPlan | None, root: Path) -> bool:
    """A button that checks ``plan``, and the answer; True where that is the answer for this plan and it can run."""
    text = "" if plan is None else plan.to_yaml()
    if st.button("Check", disabled=plan is None, help="Reads headers only; nothing is computed or written"):
        assert plan is not None
        with st.spinner("Reading the headers"):
            try:
                st.session_state[CHECKED] = (text, run_check(plan), "")
            except InputError as error:
                st.session_state[CHECKED] = (text, None, str(error))
    checked, answer, problem = st.session_state.get(CHECKED, ("", None, ""))
    if plan is None or checked != text:
        if plan is not None and checked:
            st.caption("The form has changed since the last check.")
        return False
    if problem:
        trouble.show("This cannot be run:", problem)
        return False
    _answer(answer, root)
    return True


def _answer(answer: dict[str, Any], root: Path) -> None:
    families = answer["families"]
    boxes = st.columns(5)
    boxes[0].metric("Matrices to merge", num(sum(row["matrices"] for row in families)),
                    help=f"{answer['parameters']:,} of {answer['base_parameters']:,} base parameters")  # fmt: skip
    boxes[1].metric("To read", size(answer["bytes_to_read"]))
    free = available_memory()
    memory = max(answer["memory_bytes"], answer["probe_memory_bytes"])
    parts = f"{size(answer['memory_bytes'])} to merge, {size(answer['probe_memory_bytes'])} to score"
    boxes[2].metric("Memory", size(memory), help=f"Beyond the libraries, for each worker: {parts}")
    boxes[3].metric("Disk", size(answer["disk_bytes"]), help="For the branches of every step")
    boxes[4].metric("Time", duration(answer["seconds"]),
                    help="An order of magnitude, for merging alone; scoring by probes comes on top")  # fmt: skip
    disk = shutil.disk_usage(next(folder for folder in (root, *root.parents) if folder.is_dir())).free
    memory_free = "" if free is None else f"{size(free)} of memory and "
    st.caption(f"On {answer['device']}. Free now: {memory_free}{size(disk)} of disk.")
    if answer["probes"]:
        st.text(f"Probes: {probe_words(answer['probes'])}")
    if free is not None and memory > free:
        st.warning("This needs more memory than is free: the run may end early.")
    if answer["disk_bytes"] > disk:
        st.warning("This needs more disk than is free.")
    strength = ["strength"] if any(row["strength"] != 1 for row in answer["updates"]) else []
    st.dataframe(
        answer["updates"],
        hide_index=True,
        column_order=["update", "kind", *strength, "matrices", "missing", "ignored", "extra"],
        column_config={
            "update": "Update",
            "kind": "Kind",
            "strength": st.column_config.NumberColumn("Strength", help="What the update is multiplied by"),
            "matrices": st.column_config.NumberColumn("Matrices", help="Target matrices that it changes"),
            "missing": st.column_config.NumberColumn("Unchanged", help="Target matrices that it does not change"),
            "ignored": st.column_config.NumberColumn("Ignored", help="Tensors outside the target matrices"),
            "extra": st.column_config.NumberColumn("Not in base", help="Tensors that the base does not have"),
        },
    )
    for warning in answer["warnings"]:
        st.warning("Perhaps unintended:")
        st.text(warning)
    for note in answer["notes"]:
        st.text(note)


def size(count: float) -> str:
    """Bytes in the largest unit that leaves a number of at least 1."""
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.3g} {unit}"
    return f"{count:.0f} bytes"
