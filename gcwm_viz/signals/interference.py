"""What updates do to each other in one matrix and over all, before a merge and without data.

Shape suffixes: m = number of updates, o = d_out, i = d_in, r = retained rank.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.layer import cross_norms
from gcwm_viz.linalg.counts import counts
from gcwm_viz.linalg.lowrank import LowRank, Update, dense, squared_norm, times
from gcwm_viz.linalg.subspace import RightSubspace, right_subspace
from gcwm_viz.linalg.triplets import double
from gcwm_viz.signals.pairwise import Pairs

NAN = float("nan")
INTRUDER_COSINE = 0.5
INTRUDER_COUNT = 10
TRAILING_SHARE = 0.25
"""Share of the right directions that count as trailing."""
LARGEST_DENSE = 512
"""Quantities that need every singular vector of a matrix are left out (NaN) above this dimension."""


@dataclass(frozen=True)
class MatrixInterference:
    """Of one matrix; float64; NaN where an update does not touch it, or where the quantity is left out.

    squared_norm (m,): ‖Δ_i‖². base_squared_norm: ‖W‖². intruders (m,), effective_rank (m,) in (0, 1].
    (m, m) tables [i, j], j acting on i: interference tr(Ĝ_i Δ_j Â_i Δ_jᵀ); one_sided ‖Δ_jΔ_iᵀ‖²/‖Δ_i‖²;
    inner ⟨Δ_i, Δ_j⟩; sar ‖Δ_jV_i‖/‖Δ_j‖; conflict γ; overcount; trailing; sti. The first two from the leading
    singular triplets that the settings retain, with the shares of ‖Δ_i‖² in place of those of the retained energy.
    """

    squared_norm: Tensor
    base_squared_norm: float
    intruders: Tensor
    effective_rank: Tensor
    tables: dict[str, Tensor]


PAIR_TABLES = ("interference", "one_sided", "inner", "sar", "conflict", "overcount", "trailing", "sti")


def pair_rows(names: Sequence[str], tables: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """A row {i, j, value of each table} of every ordered pair of updates."""
    pairs = permutations(range(len(names)), 2)
    return [{"i": names[i], "j": names[j]} | {n: float(t[i, j]) for n, t in tables.items()} for i, j in pairs]


_SUMS = ("interference", "one_sided")


def interference(
    weight_oi: Tensor | None, deltas: Sequence[Update | None], config: GCWMConfig | None = None
) -> MatrixInterference:
    """``weight_oi``: the base's matrix, None where intruder directions and norms against it are not needed.

    Ranks are those of the signals (``analysis_rank``, ``analysis_energy``).
    """
    config = config or GCWMConfig()
    m = len(deltas)
    present = [k for k, delta in enumerate(deltas) if delta is not None and squared_norm(delta) > 0]
    members = [_Member.of(deltas[k], config) for k in present]  # type: ignore[arg-type]
    tables = {name: torch.full((m, m), NAN, dtype=torch.float64) for name in PAIR_TABLES}
    norms, intruders, effective = (torch.full((m,), NAN, dtype=torch.float64) for _ in range(3))
    index = torch.tensor(present, dtype=torch.long)
    if members:
        norms[index] = torch.tensor([each.right.total_energy for each in members], dtype=torch.float64)
        effective[index] = torch.tensor([each.effective_rank for each in members], dtype=torch.float64)
        for name, values in _pair_tables(members, config).items():
            tables[name][index[:, None], index[None, :]] = values
        intruders[index] = _intruders(weight_oi, [each.update for each in members])
    base = NAN if weight_oi is None else float(weight_oi.double().square().sum())
    return MatrixInterference(norms, base, intruders, effective, tables)


@dataclass(frozen=True)
class Leading:
    """The leading singular triplets of an update, float64 on the CPU: ``left_or`` and ``right.v_ir`` orthonormal."""

    left_or: Tensor
    right: RightSubspace

    @classmethod
    def of(cls, update: Update, config: GCWMConfig) -> "Leading":
        """The triplets that the signals' settings retain of a non-zero update, found on the update's device."""
        wide = double(update)
        right = right_subspace(wide, config.analysis_rank, config.analysis_energy)
        return cls(times(wide.to("cpu"), right.v_ir) / right.energies_r.sqrt(), right)

    @property
    def values_r(self) -> Tensor:
        return self.right.energies_r.sqrt()

    def acted_on(self, other: Update) -> tuple[float, float]:
        """tr(Ĝ Δ_j Â Δ_jᵀ) and ‖Δ_jΔᵀ‖²/‖Δ‖² of this update Δ and another, Δ_j in float64 on the CPU."""
        shares = self.right.energies_r / self.right.total_energy
        read_or = times(other, self.right.v_ir)  # Δ_j V
        written_rr = self.left_or.mT @ read_or  # Uᵀ Δ_j V
        one_sided = float((read_or.square() * shares).sum())
        return float((written_rr.square() * shares * shares[:, None]).sum()), one_sided


@dataclass(frozen=True)
class _Member(Leading):
    """An update in float64 with its leading triplets."""

    update: Update

    @classmethod
    def of(cls, update: Update, config: GCWMConfig) -> "_Member":
        update = update.to(device="cpu", dtype=torch.float64)
        leading = Leading.of(update, config)
        return cls(leading.left_or, leading.right, update)

    @property
    def effective_rank(self) -> float:
        """(Σσ²)²/Σσ⁴ over the rank that the update's form allows; Σσ⁴ = ‖ΔΔᵀ‖²."""
        gram = _small_gram(self.update)
        most = self.update.rank if isinstance(self.update, LowRank) else self.update.shape[0]
        return self.right.total_energy**2 / float(gram.square().sum()) / float(min(most, *self.update.shape))


def _pair_tables(members: Sequence[_Member], config: GCWMConfig) -> dict[str, Tensor]:
    m = len(members)
    tables = {name: torch.full((m, m), NAN, dtype=torch.float64) for name in PAIR_TABLES}
    for i, own in enumerate(members):
        for j, other in enumerate(members):
            tables["interference"][i, j], tables["one_sided"][i, j] = own.acted_on(other.update)
            tables["inner"][i, j] = _inner(own.update, other.update)
            tables["sti"][i, j] = _sti(own, other) if i != j else NAN
            tables["overcount"][i, j] = _overcount(own, other) if i != j else NAN
    # cross_norms[j, i] = ‖Δ_j V_i‖ / ‖Δ_j‖
    tables["sar"] = cross_norms([each.update for each in members], [each.right for each in members]).mT.contiguous()
    tables["conflict"] = Pairs(config).gammas([each.right for each in members])
    tables["trailing"] = _trailing([each.update for each in members])
    return tables


def _small_gram(update: Update) -> Tensor:
    """ΔᵀΔ or ΔΔᵀ up to an orthogonal change of basis, whichever is smaller."""
    if isinstance(update, LowRank):
        left = torch.linalg.qr(update.left_or, mode="r")[1]
        right = torch.linalg.qr(update.right_ri.mT, mode="r")[1]
        core: Tensor = left @ right.mT
    else:
        core = update
    return core @ core.mT if core.shape[0] <= core.shape[1] else core.mT @ core


def _inner(first: Update, second: Update) -> float:
    """⟨Δ_i, Δ_j⟩; factors are not multiplied out."""
    if isinstance(first, LowRank) and isinstance(second, LowRank):
        return float(((first.left_or.mT @ second.left_or) * (first.right_ri @ second.right_ri.mT)).sum())
    if isinstance(first, LowRank):
        first, second = second, first
    if isinstance(second, LowRank):
        return float(((second.left_or.mT @ dense(first)) * second.right_ri).sum())
    return float((dense(first) * second).sum())


def _sti(first: _Member, second: _Member) -> float:
    """(UᵀU − I) Σ (VᵀV − I) has the blocks L Σ_2 Rᵀ and Lᵀ Σ_1 R with L = U_1ᵀU_2, R = V_1ᵀV_2: every update's own
    vectors are orthonormal."""
    left, right = first.left_or.mT @ second.left_or, first.right.v_ir.mT @ second.right.v_ir
    upper, lower = (left * second.values_r) @ right.mT, (left.mT * first.values_r) @ right
    return float(upper.abs().sum() + lower.abs().sum()) / float(first.values_r.sum() + second.values_r.sum())


def _overcount(own: _Member, other: _Member) -> float:
    """:attr:`Counts.overcount` of Δ_i by Δ_i + Δ_j over all left directions of the sum."""
    basis, _ = torch.linalg.qr(torch.cat([own.left_or, other.left_or], dim=1))
    own_core, other_core = ((basis.mT @ each.left_or) * each.values_r @ each.right.v_ir.mT for each in (own, other))
    total_core = own_core + other_core
    return counts(torch.linalg.svd(total_core, full_matrices=False)[0], total_core, [own_core]).overcount


def _trailing(updates: Sequence[Update]) -> Tensor:
    """Of full-rank updates: ‖V_iᵀV_j‖²/r of the trailing quarter of the right directions; else NaN."""
    m, width = len(updates), updates[0].shape[1]
    out = torch.full((m, m), NAN, dtype=torch.float64)
    rows = updates[0].shape[0]
    count = max(1, round(TRAILING_SHARE * min(rows, width)))
    if width > LARGEST_DENSE or any(isinstance(update, LowRank) for update in updates):
        return out
    # The trailing ones of the directions that the update has at all.
    tails = []
    for update in updates:
        right = torch.linalg.svd(dense(update), full_matrices=False)[2]
        tails.append(right[-count:])
    for i in range(m):
        for j in range(m):
            out[i, j] = float((tails[i] @ tails[j].mT).square().sum()) / count
    return out


def _intruders(weight_oi: Tensor | None, updates: Sequence[Update]) -> Tensor:
    out = torch.full((len(updates),), NAN, dtype=torch.float64)
    if weight_oi is None or max(weight_oi.shape) > LARGEST_DENSE:
        return out
    base_ok = left_vectors(weight_oi)
    for k, update in enumerate(updates):
        out[k] = intruders(base_ok, weight_oi, update)
    return out


def left_vectors(weight_oi: Tensor) -> Tensor:
    """Every left singular vector (d_out, k) of a matrix, float32 on the CPU."""
    left_ok: Tensor = torch.linalg.svd(weight_oi.float().cpu(), full_matrices=False)[0]
    return left_ok


def intruders(base_ok: Tensor, weight_oi: Tensor, update: Update) -> float:
    """Of the ten leading left singular vectors of W + Δ, how many none of W's, ``base_ok``, resembles."""
    merged_oi = weight_oi.float().cpu() + dense(update).float().cpu()
    leading_ok = left_vectors(merged_oi)[:, :INTRUDER_COUNT]
    return float(((leading_ok.mT @ base_ok).abs().max(1).values < INTRUDER_COSINE).sum())


def over_matrices(parts: Sequence[MatrixInterference]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Values (m,) of every update and tables (m, m) of every pair over all matrices, by the names of
    :mod:`gcwm_viz.signals.predictors`.

    Interference is a sum of losses, so both forms are sums over matrices, relative to ‖Δ_i‖² over all matrices; the
    alignment is a cosine over all matrices; everything else is a mean over the matrices in which it is defined.
    """
    norms = torch.stack([part.squared_norm for part in parts]).nansum(0)
    base = sum(part.base_squared_norm for part in parts)
    tables = {name: torch.stack([part.tables[name] for part in parts]) for name in PAIR_TABLES}
    pairs = {name: table.nanmean(0) for name, table in tables.items() if name not in ("inner", *_SUMS)}
    pairs |= {name: tables[name].nansum(0) / norms[:, None] for name in _SUMS}
    pairs["alignment"] = tables["inner"].nansum(0) / (norms[:, None] * norms[None, :]).sqrt()
    updates = {"relative_norm": (norms / base).sqrt()}
    for name in ("intruders", "effective_rank"):
        updates[name] = torch.stack([getattr(part, name) for part in parts]).nanmean(0)
    return updates, pairs
