"""Whatever the shape, rank, scale and settings: finite, symmetric, in range, and the same from factors."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gcwm_viz import GCWMConfig, LayerGeometry, layer_geometry, merge_layer
from gcwm_viz.linalg.lowrank import LowRank
from tests.factories import generator
from tests.rounding import rounding


@dataclass(frozen=True)
class Case:
    """m products of (d_out, rank) and (rank, d_in) factors, each at its own scale 10^e; ``zero`` marks absent ones."""

    d_out: int
    d_in: int
    rank: int
    exponents: list[int]
    zero: list[bool]
    weights: list[float]
    seed: int

    def factors(self) -> list[LowRank]:
        rng = generator(self.seed)
        made = []
        for exponent, zero in zip(self.exponents, self.zero, strict=True):
            left = torch.randn(self.d_out, self.rank, generator=rng)
            right = torch.randn(self.rank, self.d_in, generator=rng)
            made.append(LowRank(left * (0.0 if zero else 10.0**exponent), right))
        return made

    def stack(self) -> Tensor:
        return torch.stack([factor.dense() for factor in self.factors()])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    m = draw(st.integers(1, 4))
    each: dict[str, Any] = {"min_size": m, "max_size": m}
    return Case(
        d_out=draw(st.integers(1, 12)),
        d_in=draw(st.integers(1, 12)),
        rank=draw(st.integers(1, 12)),
        exponents=draw(st.lists(st.integers(-8, 6), **each)),
        zero=draw(st.lists(st.sampled_from([False, False, False, True]), **each)),
        weights=draw(st.lists(st.sampled_from([1.0, 0.1, 3.0]), **each)),
        seed=draw(st.integers(0, 2**16)),
    )


PRESETS = st.sampled_from(["paper", "release", "scale-free"])


def check_geometry(geometry: LayerGeometry, case: Case) -> None:
    m, present = len(case.zero), [not zero for zero in case.zero]
    mask = torch.tensor(present)[:, None] & torch.tensor(present)[None, :]
    for table in (geometry.pairwise_conflict, geometry.sar):
        assert table.shape == (m, m)
        assert torch.equal(~table.isnan(), mask)
        known = table[mask]
        assert ((known >= 0) & (known <= 1)).all()
    gamma = geometry.pairwise_conflict
    assert torch.equal(gamma[mask], gamma.T[mask])
    assert (gamma.diagonal()[torch.tensor(present)] == 0).all()
    if not any(present):
        assert geometry.mode == "absent"
        assert math.isnan(geometry.conflict)
        return
    assert 0 <= geometry.conflict <= 1
    assert 0.15 <= geometry.alpha <= 0.95
    assert geometry.lam > 0
    assert 1 <= geometry.union_rank <= case.d_in
    assert math.isfinite(geometry.center_mismatch)
    assert geometry.center_mismatch >= 0
    assert math.isfinite(geometry.barycenter_residual)
    for index, spectrum in enumerate(geometry.spectra):
        assert spectrum.numel() == (geometry.union_rank if present[index] else 0)
        assert torch.isfinite(spectrum).all()
        assert (spectrum.diff() <= 0).all()
    shares = geometry.lambda_shares[torch.tensor(present)]
    # λ over a trace of at most 12 entries; the released arithmetic is single precision's.
    assert ((shares > 0) & (shares <= 1 + rounding(12, torch.float32))).all()


@given(case=cases(), preset=PRESETS)
def test_everything_is_finite_and_in_range(case: Case, preset: str) -> None:
    config = GCWMConfig.preset(preset)
    merge = merge_layer(case.stack(), case.weights, config)
    check_geometry(merge.geometry, case)
    for branch in (merge.merged, merge.plain, merge.geo):
        assert branch.shape == (case.d_out, case.d_in)
        assert isinstance(branch, Tensor)
        assert torch.isfinite(branch).all()
    if merge.geometry.present:
        assert math.isfinite(merge.displacement)
        assert merge.plain_solution is not None
        assert merge.geo_solution is not None
        for solution in (merge.plain_solution, merge.geo_solution):
            assert all(math.isfinite(objective) for _, objective, _ in solution.path)
            assert math.isfinite(solution.residual)


@given(case=cases())
def test_factors_and_products_agree(case: Case) -> None:
    # In double precision throughout: in single, forming the product is itself a rounding.
    factors = [factor.to(dtype=torch.float64) for factor in case.factors()]
    config = GCWMConfig(precision="float64")
    thin = merge_layer(factors, case.weights, config)
    full = merge_layer([factor.dense() for factor in factors], case.weights, config)
    assert thin.retained_ranks == full.retained_ranks
    for table in ("pairwise_conflict", "sar"):
        # A root halves the digits of the smallest singular value kept.
        torch.testing.assert_close(getattr(thin, table), getattr(full, table), rtol=0, atol=1e-7, equal_nan=True)
    scale = max(float(factor.dense().norm()) for factor in factors)
    torch.testing.assert_close(thin.merged, full.merged, rtol=0, atol=1e-6 * scale)


@given(case=cases(), exponent=st.integers(-6, 6))
def test_a_common_scale_is_invisible_to_the_scale_free_preset(case: Case, exponent: int) -> None:
    stack = case.stack().double()
    one, scaled = layer_geometry(stack, case.weights), layer_geometry(2.0**exponent * stack, case.weights)
    # A power of two rounds nothing, so what differs is the order of operations at most.
    torch.testing.assert_close(
        scaled.pairwise_conflict, one.pairwise_conflict, rtol=0, atol=4 * rounding(12), equal_nan=True
    )


@given(case=cases(), sign=st.sampled_from([1.0, -1.0]))
def test_a_copy_or_its_opposite_never_conflicts(case: Case, sign: float) -> None:
    delta = case.stack()[0]
    geometry = layer_geometry([delta, sign * delta], config=GCWMConfig.preset("paper"))
    if geometry.present:
        assert geometry.conflict <= 4 * rounding(12)
