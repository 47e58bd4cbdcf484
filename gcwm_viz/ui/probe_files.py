"""The probe files of a run, and which of their examples were lost."""

from pathlib import Path
from weakref import WeakKeyDictionary

import streamlit as st

from gcwm_viz.probes.tasks import SPLITS, ChoiceTask, PromptTask
from gcwm_viz.runs.examples import tasks_as_scored
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui.roots import within

Tasks = dict[tuple[str, str], PromptTask | ChoiceTask]
"""Tasks with right answers by split and name."""
_lost: WeakKeyDictionary[Run, dict[tuple[str, str], list[int]]] = WeakKeyDictionary()


def answered_tasks(run: Run) -> Tasks:
    """The tasks with right answers, those to report first. Raises :class:`InputError` for files outside the app's
    folders, and as :func:`~gcwm_viz.runs.examples.tasks_as_scored` does."""
    probes = run.store.file.probes
    if probes.where is not None:
        within(probes.path)
    return _load(run, str(run.path), () if probes.where is None else _stamp(probes.path))


def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    files = [
        folder / "probes.json",
        *(file for name in (*SPLITS, "representation") for file in folder.glob(f"{name}/*")),
    ]
    return tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file())


@st.cache_resource(max_entries=4, show_spinner=False)
def _load(_run: Run, path: str, stamp: tuple[tuple[str, int, int], ...]) -> Tasks:
    del path, stamp
    answered = [task for task in tasks_as_scored(_run).values() if isinstance(task, PromptTask | ChoiceTask)]
    return {(task.split, task.name): task for split in reversed(SPLITS) for task in answered if task.split == split}


def lost_examples(run: Run, tasks: Tasks) -> dict[tuple[str, str], list[int]]:
    """Examples (from 1) that were right after a step and are wrong after the last one."""
    if run not in _lost:
        _lost[run] = {}
        for split in SPLITS:
            states = [run.examples(step, split, "accuracy") for step in range(1, run.steps + 1)]
            for name, last in states[-1].items() if states else ():
                right = [values[name] > 0.5 for values in states if name in values and len(values[name]) == len(last)]
                found = [k for k, value in enumerate(last, 1) if value < 0.5 and any(step[k - 1] for step in right)]
                if len(last) == len(tasks.get((split, name), ())):
                    _lost[run][split, name] = found
    return _lost[run]
