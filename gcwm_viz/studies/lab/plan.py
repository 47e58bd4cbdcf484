"""The plan of a study: methods with their grids, task orders, and cells of work in stages."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.experiments.draw import seeded
from gcwm_viz.experiments.lab.pipelines import PIPELINES
from gcwm_viz.experiments.lab.recipe import Recipe
from gcwm_viz.plugins.loaded import loaded
from gcwm_viz.studies.lab.ablations import QUESTIONS
from gcwm_viz.studies.orders import every_order, task_orders

MERGE_ETAS = (0.6, 0.8, 1.0, 1.2, 1.4, 1.6)
WITHOUT_BARYCENTER: dict[str, Any] = {"metric": "mean"}
"""Without GCWM the metric affects neither merge, conflict nor state signals, and the barycenter takes most of the
time."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A merge method of the study: settings, and the grid from which the development split chooses."""

    method: str
    fixed: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, Sequence[Any]] = field(default_factory=dict)


MERGES: dict[str, Contender] = {
    "gcwm": Contender(method="gcwm", grid={"eta": MERGE_ETAS}),
    "gcwm-no-gate": Contender(method="gcwm", fixed={"gate": "none"}, grid={"eta": MERGE_ETAS}),
    "gcwm-mean-metric": Contender(method="gcwm", fixed={"metric": "mean"}, grid={"eta": MERGE_ETAS}),
    "wudi": Contender(method="wudi", grid={"eta": MERGE_ETAS}),
    "wudi-svc": Contender(method="wudi", fixed={"post": "svc"}, grid={"eta": MERGE_ETAS}),
    "task-arithmetic": Contender(method="task-arithmetic", grid={"eta": (0.2, 0.3, 0.4, 0.5, 0.6, 0.8)}),
    "mean": Contender(method="mean"),
    "ties": Contender(method="ties", grid={"eta": (0.5, 1.0, 1.5, 2.0, 3.0)}),
    "dare": Contender(method="dare", grid={"dare_drop": (0.5, 0.9), "eta": (0.2, 0.3, 0.4, 0.6)}),
    "localize-and-stitch": Contender(
        method="localize-and-stitch", grid={"localize_keep": (0.05, 0.2), "eta": (1.0, 1.5, 2.0)}
    ),
    "opcm": Contender(method="opcm", grid={"eta": (0.5, 1.0, 1.5, 2.0, 3.0)}),
    "dop": Contender(method="dop", grid={"dop_weight": (0.5, None), "eta": MERGE_ETAS}),
    "iso-c": Contender(method="iso-c", grid={"eta": MERGE_ETAS}),
    "iso-cts": Contender(method="iso-cts", grid={"eta": MERGE_ETAS}),
    "tsv-m": Contender(method="tsv-m", grid={"eta": MERGE_ETAS}),
    "task-arithmetic-svc": Contender(
        method="task-arithmetic",
        fixed={"post": "svc"},
        grid={"svc_alpha": (0.2, 0.5, 1.0), "eta": (0.4, 0.6, 0.8, 1.0, 1.2, 1.4)},
    ),
    "task-arithmetic-lines": Contender(
        method="task-arithmetic",
        fixed={"post": "lines"},
        grid={"lines_alpha": (0.25, 0.5), "eta": (0.3, 0.4, 0.5, 0.6, 0.8, 1.0)},
    ),
}
METHODS: tuple[str, ...] = ("seq-sft", *MERGES, "ewc", "forever", "aimmerging", "joint")
ABLATIONS = "ablations"
TRAINING = "training"
"""The question of the ablations that trains instead of merging: on the first seed alone, as it takes longest."""


@dataclass(frozen=True)
class Cell:
    """One piece of work: a method on one order and seed, or a question of the ablations of a seed (for an order)."""

    method: str
    seed: int
    order: tuple[str, ...]

    @property
    def name(self) -> str:
        return "-".join(filter(None, (self.method, str(self.seed), *self.order)))


def study_orders(recipe: Recipe, count: int) -> list[tuple[str, ...]]:
    """The recipe's order, then others drawn from its data seed without repetition. Raises InputError beyond n!."""
    drawn = every_order(len(recipe.order), seeded(recipe.data_seed, "orders"))
    return task_orders(recipe.order, count, drawn, "tasks")


def definition(method: str) -> Any:
    """What determines a method's result beside recipe, seed and order; a cell with another one is computed again."""
    digests = {plugin.name: plugin.digest for plugin in loaded() if plugin.signals}
    plugins = {"plugins": digests} if digests and method in METHODS else {}
    if method in MERGES:
        contender = MERGES[method]
        settings = RunSettings.preset_with("scale-free", contender.fixed, contender.method)
        grid = {name: list(values) for name, values in contender.grid.items()}
        return {"settings": settings.to_dict(), "grid": grid} | plugins
    if method in PIPELINES:
        return {"training": PIPELINES[method].settings, "signals": RunSettings().gcwm.to_dict()} | plugins
    return {"settings": RunSettings().to_dict()} if method == ABLATIONS else {}


def stages(
    orders: Sequence[tuple[str, ...]], seeds: Sequence[int], methods: Sequence[str], ablations: bool
) -> list[list[Cell]]:
    """Stages of cells; those of a stage can run in parallel. Base and experts of a seed are trained first."""

    def cells(*names: str) -> list[Cell]:
        return [Cell(m, seed, order) for order in orders for seed in seeds for m in names if m in methods]

    planned = [[Cell("experts", seed, ()) for seed in seeds], cells("seq-sft", *MERGES)]
    if ablations:
        planned.append([Cell(ABLATIONS, seeds[0], (TRAINING,))])
        merging = [question for question in QUESTIONS if question != TRAINING]
        planned.append([Cell(ABLATIONS, seed, (question,)) for question in merging for seed in seeds])
    planned += [cells(name) for name in PIPELINES if name not in ("seq-sft", "joint")]
    # One order, since joint training sees the same data in the end and takes longer than all other cells.
    return [*planned, [cell for cell in cells("joint") if cell.order == tuple(orders[0])]]
