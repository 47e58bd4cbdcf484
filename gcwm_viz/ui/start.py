"""Starting a run: a checked plan becomes a job of the same command line that a user would type."""

import shlex
from pathlib import Path

import streamlit as st

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.continual.plan_file import RunPlan
from gcwm_viz.errors import InputError
from gcwm_viz.jobs import jobs
from gcwm_viz.jobs.spec import digest
from gcwm_viz.ui import plan_check, plan_form, run_jobs, trouble

NAME = "start-run-name"


def free_name(root: Path) -> str:
    """``run-1``, ``run-2``, …: the first that no run or job below ``root`` has."""
    number = 1
    while (root / f"run-{number}").exists() or jobs.look(root, f"run-{number}").status != "none":
        number += 1
    return f"run-{number}"


def begin(root: Path, name: str, plan: RunPlan) -> bool:
    """Write the plan and start its run; False when a job of this name is running.

    Raises :class:`InputError` for a name that cannot be a folder or is taken.
    """
    out = root / jobs.valid_name(name)
    if out.exists():
        raise InputError(f"{out}: exists already; choose another name, or resume that run below")
    text = plan.to_yaml()
    # Named by its content: two windows that start the same name at once do not overwrite each other's plan.
    file = root / ".jobs" / name / f"plan-{digest(text)}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, text.encode())
    return jobs.start(root, name, ["run", "--plan", str(file), "--out", str(out)])


def show(root: Path, plan: RunPlan | None, checked: bool) -> None:
    """Name and start button; the plan as a file and as a command."""
    if NAME not in st.session_state:
        st.session_state[NAME] = free_name(root)
    left, right, save = st.columns([3, 2, 2], vertical_alignment="bottom")
    name = left.text_input("Name of the run", key=NAME, persist_state="session", max_chars=64)
    pressed = right.button("Start the run", type="primary", disabled=not checked, width="stretch",
                           help=None if checked else "Check the plan first")  # fmt: skip
    text = "" if plan is None else plan.to_yaml()
    save.download_button("Download the plan", text, f"{name or 'plan'}.yaml", "application/yaml", on_click="ignore",
                         disabled=plan is None, width="stretch")  # fmt: skip
    if pressed and plan is not None:
        try:
            started = begin(root, name, plan)
        except InputError as error:
            trouble.show("This run cannot be started:", error)
            return
        if not started:
            st.warning("A run of this name is running already.")
            return
        del st.session_state[NAME]
        st.rerun()
    if plan is not None:
        with st.expander("The same from a shell"):
            out = shlex.quote(str(root / (name or "run-1")))
            st.code(f"gcwm-viz run --plan plan.yaml --out {out}", language="bash")
            st.code(text, language="yaml")


def page(root: Path) -> None:
    """The whole page below its heading."""
    listed = run_jobs.entries(root)
    run_jobs.show_running(root, listed)
    new, runs = st.container(), st.container()
    with runs:
        run_jobs.show_list(root, [entry for entry in listed if entry.status != "running"])
    with new:
        st.header("New run", anchor=False)
        plan = plan_form.show()
        show(root, plan, plan_check.show(plan, root))
