"""Groups of coefficients, and the blend of one matrix against its formula in float64."""

import pytest
import torch

from gcwm_viz.calibration.coefficients import Coefficients, combined
from gcwm_viz.linalg.lowrank import LowRank, Update, dense
from gcwm_viz.updates.matrices import MatrixKey
from tests.factories import generator, updates

KEYS = [MatrixKey(f"layers.{layer}.{family}.weight", layer, family, (6, 5)) for layer in (0, 1) for family in "qv"]
PRESENT = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 0]]).bool()
COUNTS = {"matrix": 10, "layer": 6, "family": 6, "model": 3}


def test_the_start_is_the_merged_state() -> None:
    for per in COUNTS:
        own = Coefficients.of(KEYS, PRESENT, per)
        factors = own.factors(own.start_n)
        assert torch.equal(factors, torch.tensor([[1.0] * 4, [0.0] * 4, [0.0] * 4], dtype=torch.float64))


@pytest.mark.parametrize("per", COUNTS)
def test_a_group_shares_its_coefficient(per: str) -> None:
    own = Coefficients.of(KEYS, PRESENT, per)
    assert len(own.start_n) == COUNTS[per]
    values = torch.arange(1.0, COUNTS[per] + 1, dtype=torch.float64)
    factors = own.factors(values)
    for j in range(3):
        shared: dict[object, float] = {}
        for k, key in enumerate(KEYS):
            if PRESENT[j, k]:
                group = {"matrix": key.name, "layer": key.layer, "family": key.family, "model": 0}[per]
                assert shared.setdefault(group, float(factors[j, k])) == float(factors[j, k])
            else:
                assert float(factors[j, k]) == float(j == 0)


@pytest.mark.parametrize("per", COUNTS)
def test_the_gradient_is_the_chain_rule(per: str) -> None:
    """d/dc of ⟨P, factors(c)⟩, which is linear in c, is the gradient of P."""
    own = Coefficients.of(KEYS, PRESENT, per)
    products = torch.randn(3, 4, generator=generator(1), dtype=torch.float64)
    values = torch.randn(len(own.start_n), generator=generator(2), dtype=torch.float64)
    gradient = own.gradient(products)
    for n in range(len(values)):
        step = torch.zeros_like(values)
        step[n] = 1.0
        change = (products * (own.factors(values + step) - own.factors(values))).sum()
        assert float(gradient[n]) == pytest.approx(float(change), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("per", COUNTS)
def test_means_are_over_the_places_of_a_coefficient(per: str) -> None:
    own = Coefficients.of(KEYS, PRESENT, per)
    values = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64)
    means = own.means(values)
    for n in range(len(own.start_n)):
        at = (own.place_jk == n).any(0)
        assert float(means[n]) == pytest.approx(float(values[at].mean()), rel=1e-12)


def test_absent_products_do_not_count() -> None:
    own = Coefficients.of(KEYS, PRESENT, "model")
    products = torch.where(PRESENT, 1.0, torch.nan).double()
    assert own.gradient(products).tolist() == [4.0, 3.0, 3.0]


def test_the_blend_is_its_formula() -> None:
    sources = list(updates(3, 6, 5, seed=3))
    factors = [0.75, -0.5, 1.25]
    expected = torch.stack([f * s.double() for f, s in zip(factors, sources, strict=True)]).sum(0)
    blended = combined([*sources, None], [*factors, 2.0])
    assert blended is not None
    # Three sums in float32 of numbers below 1.
    torch.testing.assert_close(dense(blended).double(), expected, rtol=0, atol=4 * 2**-24)


def test_a_blend_of_factors_stays_factored_and_equals_the_dense_one() -> None:
    rng = generator(4)
    thin = [LowRank(torch.randn(6, 2, generator=rng), torch.randn(2, 5, generator=rng)) for _ in range(3)]
    factors = [0.75, 0.0, -1.5]
    blended = combined(thin, factors)
    assert isinstance(blended, LowRank)
    assert blended.rank == 4  # a source of factor 0 takes no columns
    full = combined([source.dense() for source in thin], factors)
    assert isinstance(full, torch.Tensor)
    torch.testing.assert_close(blended.dense(), full, rtol=1e-5, atol=1e-5)  # two orders of float32 sums
    mixed: list[Update | None] = [thin[0].dense(), thin[1], thin[2]]
    torch.testing.assert_close(combined(mixed, factors), full, rtol=1e-5, atol=1e-5)


def test_one_alone_at_1_is_itself_and_nothing_is_nothing() -> None:
    source = updates(1, 6, 5, seed=5)[0]
    alone = combined([source, None], [1.0, 1.0])
    assert isinstance(alone, torch.Tensor)
    assert torch.equal(alone, source)
    assert combined([source, None], [0.0, 1.0]) is None
