"""GCWM of one matrix: plain and geometry branch, blended by the conflict gate (METHOD section 2).

Both branches are represented as displacements from the plain sum of updates. Whitening followed by recolouring is the
identity, so the geometry branch is the sum plus the recoloured displacement, and the sum itself is never whitened.
Shape suffixes: m = number of updates, o = d_out, i = d_in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.layer import LayerGeometry, check_updates, check_weights, layer_geometry
from gcwm_viz.linalg.lowrank import LowRank, Update, dense, difference, map_rows, norm
from gcwm_viz.merging.displaced import build_dtype, displaced, relative_shift
from gcwm_viz.merging.merge import mixed
from gcwm_viz.merging.quadratic import build_pair, total
from gcwm_viz.merging.solvers import Solution, solve
from gcwm_viz.merging.step import work_dtype


@dataclass(frozen=True)
class LayerMerge:
    """Result for one matrix. ``merged``, ``plain`` and ``geo`` are (d_out, d_in) on the updates' device.

    ``merge_layer`` returns them dense. In a run they stay factored where all updates are and the solver is the
    closed form, with one right factor for all three: no merge of adapters then forms a large matrix.

    merged = α geo + (1 − α) plain (equation 10), or one branch alone as ``mode`` says.
    displacement: D = ‖geo − plain‖_𝓑 (Proposition 1), 𝓑 of equation 15 without the whitening's ridge. plain_shift,
    geo_shift: ‖branch − Σ Δ_i‖_F / ‖Σ Δ_i‖_F, how far the solver moved each branch (NaN where the sum is zero). The
    other values are those of ``LayerGeometry``, the field ``geometry``; the solvers'
    objective paths, iterations and convergence are in ``plain_solution`` and ``geo_solution`` (None without an update).
    """

    merged: Update
    plain: Update
    geo: Update
    displacement: float
    plain_shift: float
    geo_shift: float
    geometry: LayerGeometry
    plain_solution: Solution | None
    geo_solution: Solution | None

    def _repr_html_(self) -> str:
        """Of a notebook: what was decided, and how far the branches lie from the sum and from each other."""
        rows = {
            "matrix": " × ".join(map(str, self.merged.shape)),
            "updates": len(self.geometry.retained_ranks),
            "mode": self.mode,
            "conflict g, in [0, 1]": f"{self.conflict:.3f}",
            "α, share of the geometry branch": f"{self.alpha:.3f}",
            "plain branch moved from the sum by": f"{self.plain_shift:.2%}",
            "geometry branch moved from the sum by": f"{self.geo_shift:.2%}",
            "distance D of the branches": f"{self.displacement:.3g}",
        }
        return f"<table>{''.join(f'<tr><th>{name}</th><td>{value}</td></tr>' for name, value in rows.items())}</table>"

    @property
    def alpha(self) -> float:
        return self.geometry.alpha

    @property
    def mode(self) -> str:
        return self.geometry.mode

    @property
    def conflict(self) -> float:
        return self.geometry.conflict

    @property
    def pairwise_conflict(self) -> Tensor:
        return self.geometry.pairwise_conflict

    @property
    def sar(self) -> Tensor:
        return self.geometry.sar

    @property
    def union_rank(self) -> int:
        return self.geometry.union_rank

    @property
    def retained_ranks(self) -> tuple[int, ...]:
        return self.geometry.retained_ranks

    @property
    def spectra(self) -> list[Tensor]:
        return self.geometry.spectra

    @property
    def barycenter_spectrum(self) -> Tensor:
        return self.geometry.metric_spectrum

    @property
    def barycenter_residual(self) -> float:
        return self.geometry.barycenter_residual

    @property
    def center_mismatch(self) -> float:
        return self.geometry.center_mismatch


def merge_layer(
    updates: Tensor | Sequence[Update], weights: Sequence[float] | None = None, config: GCWMConfig | None = None
) -> LayerMerge:
    """Merge (m, d_out, d_in) updates of one matrix with task weights ω (default 1 each), on any device.

    Updates that are exactly zero are left out; with none left the result is zero. The updates are not modified.
    Raises ``ValueError`` for shapes that differ, non-finite values or unusable weights.
    """
    config = config or GCWMConfig()
    deltas = check_updates(updates)
    omegas = check_weights(weights, len(deltas))
    merge = merge_with_geometry(deltas, omegas, layer_geometry(deltas, omegas, config), config)
    merged = dense(merge.merged)
    return replace(
        merge,
        merged=merged if merge.mode == "blend" else merged.clone(),  # shares no memory with a branch
        plain=dense(merge.plain),
        geo=dense(merge.geo),
    )


def merge_with_geometry(
    deltas: Sequence[Update], weights: Sequence[float], geometry: LayerGeometry, config: GCWMConfig
) -> LayerMerge:
    """The same for a known geometry."""
    work, device = work_dtype(config), deltas[0].device
    if geometry.metric is None:
        zero = torch.zeros(tuple(deltas[0].shape), dtype=work, device=device)
        nan = float("nan")
        return LayerMerge(zero, zero.clone(), zero.clone(), nan, nan, nan, geometry, None, None)
    build = build_dtype(config, device)
    present = [deltas[index] for index in geometry.present]
    omegas = [weights[index] for index in geometry.present]
    metric = geometry.metric
    whiten, recolour = partial(metric.times_power, power=-0.5), partial(metric.times_power, power=0.5)
    plain_quadratic, geo_quadratic = build_pair(present, omegas, metric, build)
    plain_solution, geo_solution = solve(plain_quadratic, config), solve(geo_quadratic, config)
    start = total(present, build).to(dtype=work)
    plain_displacement, whitened = plain_solution.displacement_oi, geo_solution.displacement_oi
    geo_displacement = (
        LowRank(whitened.left_or, start.right_ri)  # whitening and recolouring undo each other
        if isinstance(whitened, LowRank) and isinstance(start, LowRank)
        else recolour(dense(whitened))
    )
    plain, geo = displaced(start, plain_displacement), displaced(start, geo_displacement)
    return LayerMerge(
        merged=mixed({"plain": plain, "geo": geo}, geometry.alpha, geometry.mode),
        plain=plain,
        geo=geo,
        displacement=metric.norm(difference(geo_displacement, plain_displacement)),
        plain_shift=relative_shift(plain_displacement, start),
        geo_shift=relative_shift(geo_displacement, start),
        geometry=geometry,
        plain_solution=replace(plain_solution, start_norm=norm(start)),
        geo_solution=replace(geo_solution, start_norm=norm(map_rows(start, whiten))),
    )
