"""``restore``: chosen matrices put back to the state before a step, scored, and written as a model."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gcwm_viz.commands.options import Commands
from gcwm_viz.errors import InputError

if TYPE_CHECKING:
    from gcwm_viz.attribution.restore import Restoration


def add(commands: Commands) -> None:
    parser = commands.add_parser("restore", help="put matrices back to the state before a step, and score the model")
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--step", type=int, help="the step that is undone there [the last]")
    parser.add_argument("--from", type=int, dest="start", metavar="STEP", help="the state to go back to [--step - 1]")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--cells", type=Path, metavar="FILE", help='JSON: {"cells": [{"layer": 0, "family": "k_proj"}, …]}'
    )
    which.add_argument("--worst", type=int, metavar="K", help="the K matrices that made earlier tasks worse the most")
    which.add_argument(
        "--recover", type=float, metavar="SHARE", help="a smallest set that recovers this share of their loss"
    )
    parser.add_argument("--device", default="auto", help="auto (cuda, then mps, then cpu) or a torch device [auto]")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the model there as a checkpoint")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="of the checkpoint [as the base]")
    parser.set_defaults(command=restore)


def restore(options: argparse.Namespace) -> None:
    import torch

    from gcwm_viz.attribution.plan import paths_of
    from gcwm_viz.attribution.restore import Restoration, read_cells
    from gcwm_viz.continual.device import pick_device
    from gcwm_viz.continual.store import RunStore
    from gcwm_viz.probes.live import LiveModel
    from gcwm_viz.probes.metrics import UNITS, headline, rows_of_metric
    from gcwm_viz.probes.tasks import HarnessTask, load_tasks
    from gcwm_viz.runs.inputs import reopen_inputs

    store = RunStore.open(options.run)
    store.check_finished()
    if store.file.probes.where is None:
        raise InputError(f"run {options.run} has no probes to score by; `score {options.run} --probes DIR` gives some")
    ends = paths_of(store, options.start, store.steps if options.step is None else options.step)[0]
    reopen_inputs(store)
    tasks = [task for task in load_tasks(store.file.probes.path) if not isinstance(task, HarnessTask)]
    if not tasks:
        raise InputError(f"{store.file.probes.where}: expected tasks with prompts, choices or texts, found none")
    live = LiveModel(store, pick_device(options.device))
    restoration = Restoration(live, ends, tasks)
    if options.cells is not None:
        shares = read_cells(options.cells, live)
    else:
        shares = dict.fromkeys(_chosen(restoration, options.worst, options.recover), 1.0)
    scores = restoration.score(shares)
    print(f"{len(shares)} of {len(restoration.matrices)} matrices put back, {ends.words} undone there:")
    for name, share in shares.items():
        print(f"  {name}{'' if share == 1 else f' ({100 * share:.0f} %)'}")
    split = "test" if "test" in set(scores["split"]) else scores["split"].iloc[0]
    part = scores[scores["split"] == split]
    metric = headline(part)
    columns = ["task", "role", "before", "after", "restored", "change", "change_se", "loss_undone"]
    undone = part.loc[part["metric"] == "nll"].set_index("task")["recovered"]
    rows = rows_of_metric(part, metric).assign(loss_undone=lambda own: own["task"].map(undone))
    print(f"{UNITS[metric]} ({split} split) before the step, after it and restored; share of the loss change undone:")
    print(rows[columns].to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    if options.out is not None:
        from gcwm_viz.export.restored import export_restored

        dtype = getattr(torch, options.dtype) if options.dtype else None
        export_restored(restoration, shares, scores, options.out, dtype, tell=print)
        print(f"wrote {options.out}")


def _chosen(restoration: "Restoration", worst: int | None, share: float | None) -> list[str]:
    """The worst matrices by the run's attribution on dev, or a smallest set, judged on dev."""
    from gcwm_viz.attribution.restore import Restoration
    from gcwm_viz.attribution.search import rank, smallest_set
    from gcwm_viz.runs.tables import Run

    store, ends = restoration.live.store, restoration.ends
    table = Run(store).tables["attribution"]
    rows = table[(table["start"] == ends.start) & (table["step"] == ends.step) & (table["split"] == "dev")]
    if rows.empty:
        raise InputError(
            f"run {store.path} has no attribution from {ends.words}; compute it with: "
            f"gcwm-viz attribute {store.path} --from {ends.start} --to {ends.step}"
        )
    ranked = rank(rows, [name for name, role in restoration.roles.items() if role == "earlier"])
    if share is None:
        assert worst is not None
        if not 1 <= worst <= len(ranked):
            raise InputError(
                f"--worst: expected 1 to {len(ranked)}, the matrices that made earlier tasks worse, found {worst}"
            )
        return ranked[:worst]
    judged = [task for task in restoration.tasks if task.split == "dev"]
    *_, best = smallest_set(Restoration(restoration.live, ends, judged), ranked, share)
    return list(best.matrices)
