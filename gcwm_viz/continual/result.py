"""The result of one matrix: rows of its tables, and the branches of its merges."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from gcwm_viz.continual.branches import step_tensors
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.matrix import steps
from gcwm_viz.continual.merges import named_decompositions
from gcwm_viz.continual.rows import TABLES, Row, step_rows
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.updates.matrices import MatrixKey


@dataclass
class MatrixResult:
    """Rows by table, and tensors by the names of :mod:`gcwm_viz.continual.branches`."""

    rows: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in TABLES})
    tensors: dict[str, Tensor] = field(default_factory=dict)


def process_matrix(
    key: MatrixKey,
    names: Sequence[str],
    deltas: Sequence[Update | None],
    settings: RunSettings,
    states: Sequence[Update | None] | None = None,
    layers: int | None = None,
) -> MatrixResult:
    """Run every step of one matrix; arguments as :func:`gcwm_viz.continual.matrix.steps` takes them.

    Raises :class:`InputError` where a merge is not finite or a decomposition fails, naming the matrix.
    """
    result = MatrixResult()
    with named_decompositions(key):
        for step in steps(key, names, deltas, settings, states, layers):
            for name, rows in step_rows(step).items():
                result.rows[name] += rows
            if step.number == len(names) or settings.continual.keep == "all":
                result.tensors |= step_tensors(step)
    return result
