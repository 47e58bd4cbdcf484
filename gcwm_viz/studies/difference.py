"""The update between any two checkpoints, matrix by matrix, without a run."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.linalg.lowrank import LowRank, Update, dense
from gcwm_viz.linalg.triplets import triplets
from gcwm_viz.runs.inputs import Inputs, OpenInputs, open_inputs
from gcwm_viz.signals.interference import LARGEST_DENSE, intruders, left_vectors
from gcwm_viz.updates.choice import Choice

NAME = "update"
NAN = float("nan")
KEPT = 64
"""Singular values in the table."""
COLUMNS = {
    "matrix": "name of the tensor in the first checkpoint",
    "layer": "index of the decoder block",
    "family": "module family, such as q_proj",
    "d_out": "rows of the matrix",
    "d_in": "columns of the matrix",
    "norm": "‖Δ‖_F; 0 = the same matrix in both",
    "base_norm": "‖W‖_F of the first checkpoint",
    "relative_norm": "‖Δ‖_F / ‖W‖_F; higher = a larger change; NaN where W is zero",
    "rank": "singular values above max(d_out, d_in) · 1.2e-7 of the first; of an adapter at most its rank. Rounding to "
    "half precision counts",
    "stable_rank": "‖Δ‖_F² / σ₁², in [1, rank]; low = few directions",
    "rank_90": "fewest singular directions with 90 % of ‖Δ‖_F²",
    "top_share": "σ₁² / ‖Δ‖_F², in (0, 1]; high = one direction",
    "intruders": "of the ten leading left singular vectors of W + Δ, how many have no |cos| ≥ 0.5 with one of W "
    "(arXiv 2410.21228); NaN for a matrix with a side above the limit, whose whole SVD was not computed",
    "singular_values": f"of Δ, descending, the first {KEPT}",
}
"""Of :func:`difference`, with their meanings. NaN for an unchanged matrix where a value is of Δ's directions."""


def difference(
    before: Path | str,
    after: Path | str,
    *,
    choice: Choice | None = None,
    largest: int = LARGEST_DENSE,
    progress: Callable[[str, int, int, str], None] | None = None,
) -> pd.DataFrame:
    """The change from one checkpoint to another, a row for each target matrix; columns: :data:`COLUMNS`.

    before: a checkpoint. after: a checkpoint of the same architecture, an adapter of ``before``, or anything else that
    is an update of it. choice: which matrices are targets, by default those of the decoder blocks. largest: intruder
    directions are computed where neither side of a matrix exceeds it; they take two SVDs. One matrix is in memory at a
    time, in float32; its spectrum is computed in float64.

    Raises :class:`InputError` for inputs that do not fit together.
    """
    return difference_of(open_both(before, after, choice), largest=largest, progress=progress)


def difference_of(
    opened: OpenInputs, *, largest: int = LARGEST_DENSE, progress: Callable[[str, int, int, str], None] | None = None
) -> pd.DataFrame:
    """:func:`difference` of what :func:`open_both` opened."""
    (source,), keys, rows = opened.sources, opened.plan.keys, []
    for done, key in enumerate(keys, start=1):
        weight_oi = key.to_linear(read_tensor(opened.base.stored(key.name)).float())
        rows.append(
            {"matrix": key.name, "layer": key.layer, "family": key.family, "d_out": key.shape[0], "d_in": key.shape[1]}
            | _row(weight_oi, source.delta(key), largest)
        )
        if progress:
            progress("difference", done, len(keys), key.name)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def open_both(before: Path | str, after: Path | str, choice: Choice | None = None) -> OpenInputs:
    """Both with their headers read; the second is the one update of the first."""
    return open_inputs(Inputs(base=Path(before), updates=[(NAME, Path(after))], choice=choice or Choice()))


def by(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Groups of :func:`difference`, by ``family`` or ``layer``: norms of all their matrices together, relative to them
    all; of the other values the mean over the changed matrices."""
    groups = rows.groupby(column, sort=False)
    squared = groups[["norm", "base_norm"]].apply(lambda group: (group**2).sum() ** 0.5)
    means = groups[["stable_rank", "rank_90", "top_share", "intruders"]].mean()
    table = pd.DataFrame({"matrices": groups.size(), "norm": squared["norm"]})
    table["relative_norm"] = squared["norm"] / squared["base_norm"]
    return table.join(means)


def _row(weight_oi: Tensor, delta: Update | None, largest: int) -> dict[str, object]:
    base = float(weight_oi.double().norm())
    same = {"norm": 0.0, "base_norm": base, "relative_norm": 0.0 if base else NAN, "rank": 0, "singular_values": []}
    if delta is None:
        return same
    values_k = _singular_values(delta)
    energies_k = values_k.square()
    total, shares_k = float(energies_k.sum()), energies_k.cumsum(0) / energies_k.sum()
    floor = max(delta.shape) * torch.finfo(torch.float32).eps * values_k[0]
    return {
        "norm": total**0.5,
        "base_norm": base,
        "relative_norm": total**0.5 / base if base else NAN,
        "rank": int((values_k > floor).sum()),
        "stable_rank": total / float(energies_k[0]),
        "rank_90": int((shares_k < 0.9).sum()) + 1,
        "top_share": float(energies_k[0]) / total,
        "intruders": NAN if max(delta.shape) > largest else intruders(left_vectors(weight_oi), weight_oi, delta),
        "singular_values": values_k[:KEPT].tolist(),
    }


def _singular_values(delta: Update) -> Tensor:
    """Descending, float64; of a dense matrix from the Gram matrix of its smaller side."""
    if isinstance(delta, LowRank):
        return triplets(delta.to(dtype=torch.float64)).values_k
    wide = dense(delta).double()
    wide = wide if wide.shape[0] <= wide.shape[1] else wide.mT
    values_k: Tensor = torch.linalg.eigvalsh(wide @ wide.mT).clamp_min(0).sqrt().flip(0)
    return values_k
