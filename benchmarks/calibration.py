"""``python -m benchmarks.calibration OUT``: what development probes are worth, on three seeds of the lab.

OUT keeps trainings, runs and calibrations, so an interrupted call goes on. Settings are compared on development probes
that no fit saw (``choice``); test scores are of the settings chosen there. Results go to benchmarks/results and the
document's parts; ``--document`` writes the document alone.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from benchmarks.document import filled
from gcwm_viz.calibration.calibrate import calibrate
from gcwm_viz.calibration.result import read_fitted, read_values
from gcwm_viz.calibration.sample import order_of
from gcwm_viz.calibration.settings import CalibrationSettings
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.store import RunStore
from gcwm_viz.experiments.lab.bundle import locate, write_inputs
from gcwm_viz.experiments.lab.library import Library
from gcwm_viz.linalg.threads import one_thread
from gcwm_viz.probes.stored import read_examples
from gcwm_viz.probes.tasks import load_split
from gcwm_viz.probes.values import TaskValues, difference_error
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from gcwm_viz.statistics.means import Z95, error_over_tasks

SEEDS = (0, 1, 2)
COUNTS = (2, 4, 8, 16, 32)
"""Probes a task of the learning curve, beside all of them."""
JUDGED = 16
"""Probes a task that a comparison of settings fits on; the others judge it."""
WAYS: dict[str, dict[str, Any]] = {
    "stopped by a quarter held out": {},
    "10 passes on all": {"held_out": 0.0, "passes": 10},
    "20 passes on all": {"held_out": 0.0, "passes": 20},
}
FEW = 4
"""Probes a task, with which it is asked whether one of them should be held out."""
PRIOR_COUNTS, PRIOR_CELLS = (2,), 7
"""Probes a task with which geometry is asked for help, and the matrices that it may choose, a quarter of them."""
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "findings.md"
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Cell:
    """One calibration of every seed. ``part``: the table that it belongs to."""

    part: str
    name: str
    settings: dict[str, Any]


def cells() -> list[Cell]:
    listed = [Cell("curve", str(count), {"probes_per_task": count}) for count in COUNTS]
    listed.append(Cell("curve", "all", {}))
    for ridge in (0.02, 0.0):
        for name, way in WAYS.items():
            settings = {"probes_per_task": JUDGED, "ridge": ridge, **way}
            listed.append(Cell("choice", f"{name}, ridge {ridge:g}", settings))
    listed += [
        Cell("few", "stopped by half of them held out", {"probes_per_task": FEW, "held_out": 0.5}),
        Cell("few", "10 passes on all", {"probes_per_task": FEW}),
    ]
    listed += [
        Cell("form", "c_0 alone, a matrix", {"sources": "state"}),
        Cell("form", "one set a layer", {"per": "layer"}),
        Cell("form", "one set for the model", {"per": "model"}),
        Cell("form", "by entropy, without answers", {"objective": "entropy"}),
    ]
    for count in PRIOR_COUNTS:
        few = {"probes_per_task": count}
        for prior in ("none", "conflict", "interference"):
            if prior != "none":
                listed.append(Cell("prior", f"penalty by {prior}, {count} probes", {**few, "prior": prior}))
            chosen = {**few, "prior": prior, "cells": PRIOR_CELLS, "ridge": 0.0}
            name = "at random" if prior == "none" else f"by {prior}"
            listed.append(Cell("prior", f"{PRIOR_CELLS} matrices {name}, {count} probes", chosen))
    listed.append(Cell("form", "60 passes on all probes", {"held_out": 0.0, "passes": 60}))
    return listed


def run_of(seed: int, out: Path) -> RunStore:
    """The WUDI merge of one seed; seed 0 is the lab that ships."""
    path = out / f"run-{seed}"
    if not (path / "run.json").is_file():
        if seed == 0:
            bundle = locate()
            inputs = Inputs(base=bundle.base, updates=list(bundle.updates.items()), probes=bundle.probes)
        else:
            folder = out / f"seed-{seed}"
            updates = write_inputs(Library(seed, None, out / "trained"), folder)
            inputs = Inputs(base=folder / "base", updates=updates, probes=folder / "probes")
        create_run(inputs, path, RunSettings.preset_with("scale-free", {"keep": "last"}, "wudi"))
    store = RunStore.open(path)
    if store.status() != "complete":
        continue_run(store, CPU, workers=1)
    return store


def measure(store: RunStore, cell: Cell, seed: int, folder: Path) -> dict[str, Any]:
    """Exact match and nll, means over tasks: on development probes that the fit did not use, and on test."""
    settings = CalibrationSettings(**{"seed": seed, **cell.settings})
    calibrate(store.path, settings, folder)
    fitted = read_fitted(folder)
    merged = {(v.split, v.name): v for v in read_examples(store, store.steps)}
    unused = {task.name: order_of(task, seed)[settings.probes_per_task or len(task) :]
              for task in load_split(store.file.probes.path, "dev")}  # fmt: skip
    row: dict[str, Any] = {"part": cell.part, "name": cell.name, "seed": seed, "settings": cell.settings}
    row |= {name: fitted[name] for name in ("coefficients", "best_pass", "stop")}
    for split in ("dev", "test"):
        pairs = [(merged[split, own.name], own) for own in read_values(folder) if own.split == split]
        if split == "dev":
            pairs = [(_of(before, unused[own.name]), _of(own, unused[own.name])) for before, own in pairs]
        pairs = [(before, own) for before, own in pairs if len(own.metrics["em"])]
        for metric in ("em", "nll") if pairs else ():
            row[f"{split}_{metric}"] = _mean([float(own.metrics[metric].mean()) for _, own in pairs])
            row[f"{split}_{metric}_merged"] = _mean([float(before.metrics[metric].mean()) for before, _ in pairs])
        if split == "test":
            errors = [difference_error("em", own.metrics["em"] - before.metrics["em"]) for before, own in pairs]
            row["test_em_error"] = error_over_tasks(errors)
    return row


def _of(values: TaskValues, examples: list[int]) -> TaskValues:
    return TaskValues(values.name, values.split, {name: own[examples] for name, own in values.metrics.items()})


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def over_seeds(rows: list[dict[str, Any]], column: str) -> float:
    return _mean([row[column] for row in rows])


def sections(rows: list[dict[str, Any]]) -> dict[str, str]:
    """The document's parts, one table each."""
    judged = ("how the fit ends", "exact match", "nats per token", "passes kept")
    tested = ("exact match on test", "over WUDI", "by seed", "nats per token", "passes kept")
    heads = {
        "choice": judged,
        "few": judged,
        "curve": ("probes a task", *tested),
        "form": ("coefficients", *tested),
        "prior": ("geometry", *tested),
    }
    tables = {}
    for part, head in heads.items():
        some = [row for row in rows if row["part"] == part]
        names = list(dict.fromkeys(row["name"] for row in some))
        lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        if head is judged:
            first = [row for row in some if row["name"] == names[0]]
            em, nll = (over_seeds(first, f"dev_{metric}_merged") for metric in ("em", "nll"))
            lines.append(f"| WUDI, not calibrated | {em:.3f} | {nll:.4f} | 0 |")
        line = _choice_line if head is judged else _test_line
        tables[f"calibration-{part}"] = "\n".join([*lines, *(line(name, some) for name in names)])
    return tables


def _choice_line(name: str, rows: list[dict[str, Any]]) -> str:
    own = [row for row in rows if row["name"] == name]
    passes = ", ".join(str(row["best_pass"]) for row in own)
    return f"| {name} | {over_seeds(own, 'dev_em'):.3f} | {over_seeds(own, 'dev_nll'):.4f} | {passes} |"


def _test_line(name: str, rows: list[dict[str, Any]]) -> str:
    own = [row for row in rows if row["name"] == name]
    gain = over_seeds(own, "test_em") - over_seeds(own, "test_em_merged")
    half = Z95 * error_over_tasks([row["test_em_error"] for row in own])
    seeds = ", ".join(f"{row['test_em']:.3f}" for row in own)
    passes = ", ".join(str(row["best_pass"]) for row in own)
    return (
        f"| {name} | {over_seeds(own, 'test_em'):.3f} | {gain:+.3f} ± {half:.3f} | {seeds} | "
        f"{over_seeds(own, 'test_nll'):.4f} | {passes} |"
    )


def document(text: str) -> str:
    """docs/findings.md with the tables of the stored results."""
    stored = machine.read("calibration")
    assert stored is not None
    return filled(text, sections(stored["result"]["cells"]))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", default=Path("runs/calibration"), metavar="OUT")
    parser.add_argument("--document", action="store_true", help="write the document from the stored results alone")
    options = parser.parse_args()
    if not options.document:
        rows = []
        with one_thread():
            stores = {seed: run_of(seed, options.out) for seed in SEEDS}
            for number, cell in enumerate(cells()):
                for seed, store in stores.items():
                    folder = options.out / "calibrations" / f"{seed}-{_slug(cell)}"
                    rows.append(measure(store, cell, seed, folder))
                print(f"{number + 1} of {len(cells())}: {cell.part}, {cell.name}: "
                      f"test {over_seeds(rows[-len(SEEDS):], 'test_em'):.3f}", flush=True)  # fmt: skip
        machine.write("calibration", {"seeds": SEEDS}, {"cells": rows})
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def _slug(cell: Cell) -> str:
    words = [f"{name}={value}" for name, value in sorted(cell.settings.items())]
    return "-".join(words) or "default"


if __name__ == "__main__":
    raise SystemExit(main())
