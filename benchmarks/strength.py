"""``python -m benchmarks.strength [MODEL …]``: how strong a merge should be, by method, on the lab and on SmolLM2.

MODEL: lab, smollm2 or both. For every merge η is chosen on the development probes as ``run`` does it, and base + ηM is
scored on test at that η, at the defaults without probes, and for the plain sum at a half. Finished rows in
benchmarks/results/strength.json are kept; ``--document`` writes the parts of docs/findings.md from them alone.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from benchmarks.document import filled
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.final import final_state
from gcwm_viz.experiments.bundles import Bundle
from gcwm_viz.experiments.lab import bundle as lab
from gcwm_viz.experiments.smollm2 import bundle as smollm2
from gcwm_viz.experiments.smollm2.base import base_folder
from gcwm_viz.geometry.config import WITHOUT_PROBES
from gcwm_viz.linalg.lowrank import Update, norm, scaled
from gcwm_viz.linalg.threads import one_thread
from gcwm_viz.linalg.triplets import double, triplets
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.merged import MergedModel
from gcwm_viz.probes.tasks import PromptTask, load_split
from gcwm_viz.probes.values import TaskValues
from gcwm_viz.runs.inputs import Inputs, open_inputs
from gcwm_viz.statistics.means import error_over_tasks
from gcwm_viz.studies.eta import searched
from gcwm_viz.studies.lab.summary import markdown
from gcwm_viz.updates.matrices import depth

NAME = "strength"
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "findings.md"
CPU = torch.device("cpu")
HALF = 0.5


@dataclass(frozen=True)
class Row:
    """A merge: method and settings. ``etas``: scored on test beside the η that dev chooses. ``held``: whether to try
    the η at which the merge has the updates' mean norm."""

    name: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    etas: tuple[float, ...] = ()
    held: bool = False


ROWS = (
    Row("task-arithmetic", "task-arithmetic", etas=(HALF,)),
    Row("wudi", "wudi", etas=(WITHOUT_PROBES, 1.0), held=True),
    Row("gcwm", "gcwm", etas=(WITHOUT_PROBES, 1.0)),
    Row("iso-c", "iso-c"),
    Row("iso-cts", "iso-cts"),
    Row("tsv-m", "tsv-m"),
    Row("dop", "dop"),
    Row("ties", "ties"),
    Row("task-arithmetic + svc", "task-arithmetic", {"post": "svc"}),
    Row("wudi + svc", "wudi", {"post": "svc"}),
)


class Bench:
    """A model that is set to base + ηM; its prompts are scored, one split at a time."""

    def __init__(self, bundle: Bundle, base: Path) -> None:
        opened = open_inputs(Inputs(base=base, updates=list(bundle.updates.items())))
        self.keys, self.names = list(opened.plan.active), [source.name for source in opened.sources]
        self._deltas = [[source.delta(key) for source in opened.sources] for key in self.keys]
        self._model = MergedModel(opened.base, self.keys, CPU, torch.float32)
        self._probes = bundle.probes

    def merge(self, settings: RunSettings) -> list[Update]:
        parts, layers = zip(self.keys, self._deltas, strict=True), depth(self.keys)
        return [final_state(key, self.names, deltas, settings, layers) for key, deltas in parts]

    def held(self, merged: Sequence[Update]) -> dict[str, float]:
        """Norms of the updates, a mean over them, over that of the merge: of all matrices together (Frobenius), and of
        the largest singular values, each a sum over matrices."""
        updates = list(zip(*self._deltas, strict=True))
        own, whole = ([_norms(each) for each in of] for of in (updates, [merged]))
        names = ("frobenius", "spectral")
        return {n: sum(o[k] for o in own) / len(own) / whole[0][k] for k, n in enumerate(names)}

    def values(self, merged: Sequence[Update], eta: float, split: str) -> list[TaskValues]:
        self._model.set_updates([scaled(update, eta) for update in merged])
        return self._of[split].measure(self._model.model, CPU)

    @cached_property
    def _of(self) -> dict[str, BehaviourProbe]:
        splits = {split: load_split(self._probes, split) for split in ("dev", "test")}
        return {
            split: BehaviourProbe(self._model.tokenizer, [task for task in tasks if isinstance(task, PromptTask)])
            for split, tasks in splits.items()
        }


def measure(bench: Bench, row: Row) -> dict[str, Any]:
    """{eta, dev: by η, test: [exact match, its error] by η}, a mean over tasks; the best η on dev is ``eta``."""
    settings = RunSettings.preset_with("scale-free", {**row.settings, "eta": 1.0}, row.method)
    merged = bench.merge(settings)
    eta, tried = searched(lambda etas: {eta: bench.values(merged, eta, "dev") for eta in etas})
    test = {each: _score(bench.values(merged, each, "test")) for each in dict.fromkeys((eta, *row.etas))}
    found: dict[str, Any] = {"eta": eta, "dev": {f"{k:g}": _score(v)[0] for k, v in tried.items()}}
    found["test"] = {f"{k:g}": v for k, v in test.items()}
    if row.held:
        held = bench.held(merged)
        found["held"] = held | {"dev": _score(bench.values(merged, held["frobenius"], "dev"))[0]}
    return found


def _norms(update: Sequence[Update]) -> tuple[float, float]:
    """‖Δ‖_F over all matrices, and Σ_k σ_max(Δ_k)."""
    largest = sum(float(triplets(double(each)).values_k[:1].sum()) for each in update)
    return sum(norm(each) ** 2 for each in update) ** 0.5, largest


def _score(values: Sequence[TaskValues]) -> tuple[float, float]:
    rows = [row for task in values for row in task.rows() if row["metric"] == "em"]
    return sum(row["value"] for row in rows) / len(rows), error_over_tasks([row["se"] for row in rows])


def document(text: str) -> str:
    """docs/findings.md with the tables of the stored results."""
    stored = machine.read(NAME)
    assert stored is not None
    return filled(text, {"strengths": section(stored["result"]), "strengths-held": held_section(stored["result"])})


def held_section(results: dict[str, Any]) -> str:
    """Sizes of the updates over that of their merge, beside the η that dev chose, by model."""
    lines = []
    for model, rows in results.items():
        for name, found in rows.items():
            if "held" in found:
                held, eta = found["held"], f"{found['eta']:g}"
                lines.append(
                    {"model": model, "merge": name, "η chosen on dev": f"{eta}: {found['dev'][eta]:.3f}"}
                    | {"norm of the updates over the merge's = η": f"{held['frobenius']:.2f}: {held['dev']:.3f}"}
                    | {"largest singular values, likewise": f"{held['spectral']:.2f}"}
                    | {f"η {WITHOUT_PROBES:g}": f"{found['dev'][f'{WITHOUT_PROBES:g}']:.3f}"}
                    | {"half of the plain sum": f"{rows['task-arithmetic']['dev'][f'{HALF:g}']:.3f}"}
                )
    return markdown(lines)


def section(results: dict[str, Any]) -> str:
    """One row a merge: test at the η of dev, and at the defaults without probes, on both models."""
    lines = []
    for row in ROWS:
        line = {"merge": row.name, "sees": "development probes, for η"}
        for model, rows in results.items():
            found = rows.get(row.name)
            line[f"{model}: η"] = "" if found is None else f"{found['eta']:g}"
            line[f"{model}: test"] = "not yet measured" if found is None else _said(found["test"][f"{found['eta']:g}"])
            for eta in (WITHOUT_PROBES, HALF, 1.0):
                value = None if found is None else found["test"].get(f"{eta:g}")
                line[f"{model}: η {eta:g}"] = _said(value) if value is not None and eta in row.etas else ""
        lines.append(line)
    return markdown(lines)


def _said(value: Sequence[float]) -> str:
    return f"{value[0]:.3f} ± {value[1]:.3f}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strength", description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", default=["lab", "smollm2"])
    parser.add_argument("--document", action="store_true", help="write docs/findings.md from the stored results alone")
    options = parser.parse_args()
    results: dict[str, Any] = (machine.read(NAME) or {"result": {}})["result"]
    for model in [] if options.document else options.models:
        bundle = {"lab": lab.locate, "smollm2": smollm2.locate}[model]()
        own = results.setdefault(model, {})
        todo = [row for row in ROWS if row.name not in own]
        with one_thread():
            bench = Bench(bundle, base_folder() if model == "smollm2" else bundle.base) if todo else None
            for row in todo:
                assert bench is not None
                own[row.name] = measure(bench, row)
                machine.write(NAME, {"models": list(results)}, results)
                print(model, row.name, own[row.name], flush=True)
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
