"""``python -m benchmarks.strength [MODEL …]``: how strong a merge should be, by method, on the lab and on SmolLM2.

MODEL: lab, or a case of SmolLM2's updates (``smollm2``: those that ship; benchmarks/smollm2.py has the others and
trains them into ``--trained``). For every merge η is chosen on the development probes as ``run`` does it, and base + ηM
is scored on test at that η; on the two models that ship also at the defaults without probes, and for the plain sum at a
half. Finished rows in benchmarks/results/strength.json are kept; ``--document`` writes the parts of docs/findings.md
from them alone.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine, smollm2
from benchmarks.document import filled
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.final import final_state
from gcwm_viz.experiments.lab import bundle as lab
from gcwm_viz.experiments.smollm2.base import base_folder
from gcwm_viz.geometry.config import WITHOUT_PROBES
from gcwm_viz.linalg.lowrank import Update, norm, scaled
from gcwm_viz.linalg.threads import one_thread
from gcwm_viz.linalg.triplets import double, triplets
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.merged import MergedModel
from gcwm_viz.probes.tasks import ChoiceTask, PromptTask, load_split
from gcwm_viz.probes.values import TaskValues, difference_error
from gcwm_viz.runs.inputs import Inputs, open_inputs
from gcwm_viz.statistics.means import Z95, error_over_tasks
from gcwm_viz.studies.eta import searched
from gcwm_viz.studies.lab.summary import markdown
from gcwm_viz.updates.matrices import depth

NAME = "strength"
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "findings.md"
CPU = torch.device("cpu")
HALF = 0.5
LAB = "lab"
SHIPPED = (LAB, smollm2.SHIPPED)
SEEDS = (smollm2.SHIPPED, "seed-1", "seed-2")
"""The cases that differ in their seed alone."""


@dataclass(frozen=True)
class Row:
    """A merge: method and settings. ``etas``: scored on test beside the η that dev chooses, on the models that ship.
    ``held``: whether to try the η at which the merge has the updates' mean norm there. ``everywhere``: measured on
    every case, not on the models that ship alone."""

    name: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    etas: tuple[float, ...] = ()
    held: bool = False
    everywhere: bool = True


PLAIN = "task-arithmetic"
ROWS = (
    Row(PLAIN, "task-arithmetic", etas=(HALF,)),
    Row("wudi", "wudi", etas=(WITHOUT_PROBES, 1.0), held=True),
    Row("gcwm", "gcwm", etas=(WITHOUT_PROBES, 1.0)),
    Row("iso-c", "iso-c"),
    Row("iso-cts", "iso-cts", everywhere=False),
    Row("tsv-m", "tsv-m"),
    Row("dop", "dop"),
    Row("ties", "ties", everywhere=False),
    Row("task-arithmetic + svc", "task-arithmetic", {"post": "svc"}, everywhere=False),
    Row("wudi + svc", "wudi", {"post": "svc"}),
)
SEQUENTIAL = "dop"
"""The method whose merge depends on the order of arrival: on the shipped updates it is measured in every order."""
BASE, EXPERTS, SEQUENCE = "base", "experts", "seq-sft"
NOT_YET = "not yet measured"


class Bench:
    """A model that is set to base + ηM; its probes are scored, one split at a time."""

    def __init__(self, base: Path, updates: Mapping[str, Path], probes: Path) -> None:
        opened = open_inputs(Inputs(base=base, updates=list(updates.items())))
        self.keys, self.names = list(opened.plan.active), [source.name for source in opened.sources]
        self._deltas = [[source.delta(key) for source in opened.sources] for key in self.keys]
        self._model = MergedModel(opened.base, self.keys, CPU, torch.float32)
        self._probes = probes

    def merge(self, settings: RunSettings, order: Sequence[str] | None = None) -> list[Update]:
        """The final merge, by matrix; ``order``: of arrival, the updates' own by default."""
        names, layers = list(order or self.names), depth(self.keys)
        places = [self.names.index(name) for name in names]
        return [
            final_state(key, names, [deltas[place] for place in places], settings, layers)
            for key, deltas in zip(self.keys, self._deltas, strict=True)
        ]

    def held(self, merged: Sequence[Update]) -> dict[str, float]:
        """Norms of the updates, a mean over them, over that of the merge: of all matrices together (Frobenius), and of
        the largest singular values, each a sum over matrices."""
        updates = list(zip(*self._deltas, strict=True))
        own, whole = ([_norms(each) for each in of] for of in (updates, [merged]))
        names = ("frobenius", "spectral")
        return {n: sum(o[k] for o in own) / len(own) / whole[0][k] for k, n in enumerate(names)}

    def values(self, merged: Sequence[Update | None], eta: float, split: str) -> list[TaskValues]:
        """Of the tasks with prompts, on dev; on test of those with choices too."""
        self._model.set_updates([None if update is None else scaled(update, eta) for update in merged])
        return self._of[split].measure(self._model.model, CPU)

    def change(self, folder: Path) -> list[Update | None]:
        """The update in another folder, of every matrix."""
        opened = open_inputs(Inputs(base=self._model.base.root, updates=[("other", folder)]))
        return [opened.sources[0].delta(key) for key in self.keys]

    @cached_property
    def _of(self) -> dict[str, BehaviourProbe]:
        kinds: dict[str, type | tuple[type, ...]] = {"dev": PromptTask, "test": (PromptTask, ChoiceTask)}
        return {
            split: BehaviourProbe(
                self._model.tokenizer, [task for task in load_split(self._probes, split) if isinstance(task, kind)]
            )
            for split, kind in kinds.items()
        }


def measure(bench: Bench, row: Row, model: str, order: Sequence[str] | None = None) -> dict[str, Any]:
    """{eta, dev: by η, test: [score, its error] by η, examples: by metric and task}; the best η on dev is ``eta``. The
    score is the mean exact match over tasks, or their mean NLL in a case with choices."""
    settings = RunSettings.preset_with("scale-free", {**row.settings, "eta": 1.0}, row.method)
    merged = bench.merge(settings, order)
    by_loss = model in smollm2.CASES and smollm2.CASES[model].choices
    metric = "nll" if by_loss else "em"

    def dev(eta: float) -> list[TaskValues]:
        return [TaskValues(v.name, v.split, {metric: v.metrics[metric], "nll": v.metrics["nll"]})
                for v in bench.values(merged, eta, "dev")]  # fmt: skip

    eta, tried = searched(lambda etas: {eta: dev(eta) for eta in etas})
    etas = (eta, *row.etas) if model in SHIPPED and order is None else (eta,)
    test = {each: bench.values(merged, each, "test") for each in dict.fromkeys(etas)}
    found: dict[str, Any] = {"eta": eta, "dev": {f"{k:g}": _score(v, metric)[0] for k, v in tried.items()}}
    found["test"] = {f"{k:g}": _score(v, metric) for k, v in test.items()}
    found["examples"] = examples(test[eta])
    if row.held and model in SHIPPED:
        held = bench.held(merged)
        found["held"] = held | {"dev": _score(bench.values(merged, held["frobenius"], "dev"), metric)[0]}
    return found


def own_experts(bench: Bench, updates: Mapping[str, Path]) -> dict[str, Any]:
    """{examples} of each task under its own expert."""
    own: list[TaskValues] = []
    for name, folder in updates.items():
        values = bench.values(bench.change(folder), 1.0, "test")
        own += [task for task in values if task.name.removesuffix("_choice") == name]
    return {"examples": examples(own)}


def examples(values: Sequence[TaskValues]) -> dict[str, dict[str, str]]:
    """Values of every example by metric and task, on one line; exact match as 0 and 1."""
    found: dict[str, dict[str, str]] = {}
    for task in values:
        for metric, own in task.metrics.items():
            form = ".0f" if metric in ("em", "acc") else ".4f"
            found.setdefault(metric, {})[task.name] = " ".join(format(value, form) for value in own.tolist())
    return found


def _norms(update: Sequence[Update]) -> tuple[float, float]:
    """‖Δ‖_F over all matrices, and Σ_k σ_max(Δ_k)."""
    largest = sum(float(triplets(double(each)).values_k[:1].sum()) for each in update)
    return sum(norm(each) ** 2 for each in update) ** 0.5, largest


def _score(values: Sequence[TaskValues], metric: str = "em") -> tuple[float, float]:
    rows = [row for task in values for row in task.rows() if row["metric"] == metric and not is_choice(task.name)]
    return sum(row["value"] for row in rows) / len(rows), error_over_tasks([row["se"] for row in rows])


def is_choice(task: str) -> bool:
    return task.endswith(smollm2.CHOICE)


Work = Callable[[], dict[str, Any]]


def jobs(model: str, out: Path) -> Iterator[tuple[str, Work]]:
    """What is measured of a model, by name, in this order; updates and bench are made for the first of them."""

    @cache
    def bench() -> Bench:
        if model == LAB:
            shipped = lab.locate()
            return Bench(shipped.base, shipped.updates, shipped.probes)
        return Bench(base_folder(), *smollm2.updates_of(model, base_folder(), out))

    def sequence(order: Sequence[str]) -> dict[str, Any]:
        change = bench().change(smollm2.sequence_of(model, order, base_folder(), out))
        return {"examples": examples(bench().values(change, 1.0, "test"))}

    def merged(row: Row, order: Sequence[str] | None = None) -> dict[str, Any]:
        return measure(bench(), row, model, order)

    for row in ROWS:
        if model in SHIPPED or row.everywhere:
            yield row.name, partial(merged, row)
    if model == LAB:
        return
    yield BASE, lambda: {"examples": examples(bench().values([None] * len(bench().keys), 1.0, "test"))}
    yield EXPERTS, lambda: own_experts(bench(), smollm2.updates_of(model, base_folder(), out)[0])
    if model == smollm2.SHIPPED:
        row = next(row for row in ROWS if row.name == SEQUENTIAL)
        for position, order in enumerate(smollm2.ORDERS[1:], start=2):
            yield in_order(SEQUENTIAL, position), partial(merged, row, order)
        for position, order in enumerate(smollm2.ORDERS, start=1):
            yield in_order(SEQUENCE, position), partial(sequence, order)


def in_order(name: str, position: int) -> str:
    return name if position == 1 else f"{name}, order {position}"


def document(text: str) -> str:
    """docs/findings.md with the tables of the stored results."""
    stored = machine.read(NAME)
    assert stored is not None
    results = stored["result"]
    parts = {"strengths": section(results), "strengths-held": held_section(results)}
    return filled(text, parts | {"smollm2-cases": cases_section(results), "smollm2-trained": trained_section(results)})


def held_section(results: dict[str, Any]) -> str:
    """Sizes of the updates over that of their merge, beside the η that dev chose, by model."""
    lines = []
    for model in SHIPPED:
        for name, found in results.get(model, {}).items():
            if "held" in found:
                held, eta = found["held"], f"{found['eta']:g}"
                lines.append(
                    {"model": model, "merge": name, "η chosen on dev": f"{eta}: {found['dev'][eta]:.3f}"}
                    | {"norm of the updates over the merge's = η": f"{held['frobenius']:.2f}: {held['dev']:.3f}"}
                    | {"largest singular values, likewise": f"{held['spectral']:.2f}"}
                    | {f"η {WITHOUT_PROBES:g}": f"{found['dev'][f'{WITHOUT_PROBES:g}']:.3f}"}
                    | {"half of the plain sum": f"{results[model][PLAIN]['dev'][f'{HALF:g}']:.3f}"}
                )
    return markdown(lines)


def section(results: dict[str, Any]) -> str:
    """One row a merge: test at the η of dev, and at the defaults without probes, on the models that ship."""
    lines = []
    for row in ROWS:
        line = {"merge": row.name, "sees": "development probes, for η"}
        for model in SHIPPED:
            found = results.get(model, {}).get(row.name)
            line[f"{model}: η"] = "" if found is None else f"{found['eta']:g}"
            line[f"{model}: test"] = NOT_YET if found is None else _said(found["test"][f"{found['eta']:g}"])
            for eta in (WITHOUT_PROBES, HALF, 1.0):
                value = None if found is None else found["test"].get(f"{eta:g}")
                line[f"{model}: η {eta:g}"] = _said(value) if value is not None and eta in row.etas else ""
        lines.append(line)
    return markdown(lines)


def cases_section(results: dict[str, Any]) -> str:
    """One row a merge: its score and η in every case, and what it gains on the plain sum."""
    lines = []
    for row in ROWS:
        line: dict[str, Any] = {"merge": row.name}
        for name, case in smollm2.CASES.items():
            asked = row.everywhere or name == smollm2.SHIPPED
            line[case.about] = _cell(results.get(name, {}).get(row.name), case) if asked else ""
        lines.append(line | {"over the plain sum, 95 % (seeds)": _gain(results, row.name)})
    return markdown(lines)


def trained_section(results: dict[str, Any]) -> str:
    """What is not merged, by case, and what depends on the order, on the shipped updates."""
    lines: list[dict[str, Any]] = []
    for name in (BASE, EXPERTS, SEQUENCE):
        line: dict[str, Any] = {"model": {SEQUENCE: "Seq. SFT, steps of the experts"}.get(name, name)}
        for model, case in smollm2.CASES.items():
            asked = name != SEQUENCE or model == smollm2.SHIPPED
            line[case.about] = _cell(results.get(model, {}).get(name), case) if asked else ""
        for position in range(2, 1 + len(smollm2.ORDERS)):
            own = results.get(smollm2.SHIPPED, {}).get(in_order(name, position))
            line[f"seed 0, order {position}"] = _cell(own, smollm2.CASES[smollm2.SHIPPED]) if name == SEQUENCE else ""
        lines.append(line)
    line = {"model": f"merge: {SEQUENTIAL}"}
    for position in range(2, 1 + len(smollm2.ORDERS)):
        own = results.get(smollm2.SHIPPED, {}).get(in_order(SEQUENTIAL, position))
        line[f"seed 0, order {position}"] = _cell(own, smollm2.CASES[smollm2.SHIPPED])
    return markdown([*lines, {name: line.get(name, "") for name in lines[0]}])


def _cell(found: dict[str, Any] | None, case: smollm2.Case) -> str:
    """Score on test, and η of a merge: exact match, or accuracy of the choices and perplexity of the answers."""
    if found is None or "examples" not in found:
        return NOT_YET
    eta = f" (η {found['eta']:g})" if "eta" in found else ""
    values = found["examples"]
    if not case.choices:
        return f"{_mean(values['em']):.3f}{eta}"
    answers = {task: own for task, own in values["nll"].items() if not is_choice(task)}
    return f"{_mean(values['acc']):.3f}; {math.exp(_mean(answers)):.2f}{eta}"


def _gain(results: dict[str, Any], name: str) -> str:
    """Mean paired difference of exact match over tasks and the seeds that are measured, with its 95 % interval."""
    pairs = [(results.get(model, {}).get(name, {}), results.get(model, {}).get(PLAIN, {})) for model in SEEDS]
    pairs = [pair for pair in pairs if all("examples" in found for found in pair)]
    if name == PLAIN or not pairs:
        return "" if name == PLAIN else NOT_YET
    differences = [
        torch.tensor(_listed(own["examples"]["em"][task])) - torch.tensor(_listed(values))
        for own, plain in pairs
        for task, values in plain["examples"]["em"].items()
    ]
    half = Z95 * error_over_tasks([difference_error("em", each) for each in differences])
    mean = sum(float(each.mean()) for each in differences) / len(differences)
    return f"{mean:+.3f} ± {half:.3f} ({len(pairs)} of {len(SEEDS)})"


def _mean(values: Mapping[str, str]) -> float:
    means = [sum(_listed(own)) / len(_listed(own)) for own in values.values()]
    return sum(means) / len(means)


def _listed(values: str) -> list[float]:
    return list(map(float, values.split()))


def _said(value: Sequence[float]) -> str:
    return f"{value[0]:.3f} ± {value[1]:.3f}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strength", description=__doc__)
    models = (LAB, *smollm2.CASES)
    parser.add_argument("models", nargs="*", metavar="MODEL", default=models, help=f"[{' '.join(models)}]")
    parser.add_argument("--trained", type=Path, default=Path("runs/smollm2-cases"), metavar="OUT",
                        help="trainings, which take half an hour of a core each [runs/smollm2-cases]")  # fmt: skip
    parser.add_argument("--train-only", action="store_true", help="train the updates of the cases and stop")
    parser.add_argument("--document", action="store_true", help="write docs/findings.md from the stored results alone")
    options = parser.parse_args()
    if unknown := [model for model in options.models if model not in models]:
        parser.error(f"MODEL must be one of {', '.join(models)}, got {unknown[0]!r}")
    with one_thread():
        for model in [] if options.document else options.models:
            if options.train_only:
                if model != LAB:
                    smollm2.updates_of(model, base_folder(), options.trained)
                continue
            for name, work in jobs(model, options.trained):
                stored = (machine.read(NAME) or {"result": {}})["result"]
                if name not in stored.get(model, {}):
                    found = work()
                    # Another process may have measured something else meanwhile.
                    stored = (machine.read(NAME) or {"result": {}})["result"]
                    stored.setdefault(model, {})[name] = found
                    machine.write(NAME, {"models": list(stored)}, stored)
                    print(model, name, {key: value for key, value in found.items() if key != "examples"}, flush=True)
    if not options.train_only:
        DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
