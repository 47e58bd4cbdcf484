"""The probe files of a run, and which of their examples were lost."""

from contextlib import suppress
from pathlib import Path
from weakref import WeakKeyDictionary

import streamlit as st

from gcwm_viz.errors import InputError
from gcwm_viz.probes.tasks import SPLITS, ChoiceTask, PromptTask, Task
from gcwm_viz.runs.examples import FORGOTTEN, example_table, tasks_as_scored
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui.roots import within

Tasks = dict[tuple[str, str], PromptTask | ChoiceTask]
"""Tasks with right answers by split and name."""
_lost: WeakKeyDictionary[Run, dict[tuple[str, str], list[int]]] = WeakKeyDictionary()


def answered_tasks(run: Run) -> Tasks:
    """The tasks with right answers, those to report first; raises as :func:`scored_tasks` does."""
    answered = [task for task in scored_tasks(run).values() if isinstance(task, PromptTask | ChoiceTask)]
    return {(task.split, task.name): task for split in reversed(SPLITS) for task in answered if task.split == split}


def scored_tasks(run: Run) -> dict[tuple[str, str], Task]:
    """Every task that scored the run, by split and name. Raises :class:`~gcwm_viz.errors.InputError` for files outside
    the app's folders, and as :func:`~gcwm_viz.runs.examples.tasks_as_scored` does."""
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
def _load(_run: Run, path: str, stamp: tuple[tuple[str, int, int], ...]) -> dict[tuple[str, str], Task]:
    del path, stamp
    return tasks_as_scored(_run)


def lost_examples(run: Run, tasks: Tasks) -> dict[tuple[str, str], list[int]]:
    """Examples (from 1) that were right at some state and are wrong after the last step."""
    if run not in _lost:
        _lost[run] = {}
        for split in sorted({split for split, _ in tasks}):
            with suppress(InputError):  # a run without scores has lost nothing that is known
                table = example_table(run, split)
                forgotten = table[table[f"status_{run.steps}"].isin(FORGOTTEN)]
                for name, own in forgotten.groupby("task"):
                    _lost[run][split, str(name)] = [int(example) for example in own["example"]]
    return _lost[run]
