"""A run computed from a shell: progress bars, and notes before and after."""

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gcwm_viz.commands.options import budget_of, engine_of
from gcwm_viz.errors import InputError

if TYPE_CHECKING:
    from gcwm_viz.continual.store import RunStore


class Bars:
    """One bar with time left for each phase of a command, on the terminal while the block lasts."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._bars: dict[str, tqdm] = {}
        tqdm.monitor_interval = 0  # its thread would be in the way of forking workers

    def __call__(self, phase: str, done: int, total: int, label: str) -> None:
        from tqdm import tqdm

        if phase not in self._bars:
            self._bars[phase] = tqdm(total=total, initial=done - 1, desc=phase, unit="", dynamic_ncols=True)
        bar = self._bars[phase]
        bar.set_postfix_str(label[-40:], refresh=False)
        bar.update(done - bar.n)

    def __enter__(self) -> "Bars":
        return self

    def __exit__(self, *_: object) -> None:
        for bar in self._bars.values():
            bar.close()


def work_on(opened: "Callable[[], RunStore]", options: argparse.Namespace) -> None:
    """Compute the run that ``opened`` returns to its end; it is opened or created only once there are workers."""
    from gcwm_viz.runs.run import continue_run
    from gcwm_viz.runs.strength import strength_note
    from gcwm_viz.runs.tables import Run

    with engine_of(options) as engine, Bars() as bars:
        store = opened()
        header_notes = store.file.notes
        for note in header_notes:
            print(f"note: {note}", flush=True)
        if store.file.lacks_eta:
            from gcwm_viz.studies.eta import choose_eta

            store = choose_eta(store, engine, memory_budget=budget_of(options), progress=bars)
            print(f"η = {store.settings.continual.eta:g}, chosen on the development probes", flush=True)
        continue_run(store, engine, memory_budget=budget_of(options), progress=bars)
    for note in filter(None, [*_measured_notes(store, header_notes), strength_note(Run(store))]):
        print(f"note: {note}")
    print(f"run {store.path}: {store.steps} steps, {len(store.keys)} matrices")
    _check_changed(store)


def _check_changed(store: "RunStore") -> None:
    """Raises :class:`InputError` where no update changes what is merged, so that the merged model is the base; prints a
    warning where they do and the method's final state is zero all the same."""
    from gcwm_viz.continual.outside import OutsideState
    from gcwm_viz.runs.inputs import reopen_inputs
    from gcwm_viz.runs.tables import Run

    tables = Run(store).tables
    matrices = tables["matrices"]
    if matrices.loc[matrices["step"] == store.steps, "state_norm"].any():
        return
    rest = OutsideState(reopen_inputs(store, probes=False).sources, store.keys, store.settings.continual)
    if any(rest.change(name, store.steps) is not None for name in rest.names):
        return
    if tables["updates"]["target_norm"].any():
        print(f"warning: the final state of {store.settings.method} is zero, so the merged model is the base")
        return
    raise InputError(
        f"run {store.path}: every update is zero in the target matrices, so the merged model is the base; expected "
        "trained weights under the base's names: `check --energy` says what lies outside, --targets and --outside "
        "merge other tensors"
    )


def _measured_notes(store: "RunStore", header_notes: Sequence[str]) -> list[str]:
    """What the weights showed of each update, beyond what its headers did."""
    from gcwm_viz.runs.tables import Run

    notes = []
    for update, note in Run(store).tables["updates"][["update", "note"]].itertuples(index=False):
        first = "; ".join(each for each in header_notes if each.startswith(f"{update}: "))
        measured = note.removeprefix(first).removeprefix("; ")
        notes += [f"{update}: {measured}"] if measured else []
    return notes
