import math

import numpy as np
import pytest

from gcwm_viz import GCWMConfig
from gcwm_viz.geometry.gate import branch_mode, gate
from tests.rounding import rounding

BOUND = 4 * rounding(1)
"""A difference, a product, an exponential and a quotient, of numbers below 1."""
CONFIG = GCWMConfig(tau=0.12, kappa=10.0, alpha_min=0.15, alpha_max=0.95)


def test_closed_values() -> None:
    assert gate(0.12, CONFIG) == pytest.approx(0.55, abs=BOUND)  # σ(0) = ½
    for g in (0.0, 0.3, 1.0):
        assert gate(g, CONFIG) == pytest.approx(0.15 + 0.8 / (1 + math.exp(-10 * (g - 0.12))), abs=BOUND)
    assert gate(0.7, GCWMConfig(kappa=0.0)) == pytest.approx(0.55, abs=BOUND)
    assert gate(0.7, GCWMConfig(alpha_min=0.4, alpha_max=0.4)) == 0.4


def test_a_steep_gate_is_a_switch_without_overflow() -> None:
    steep = GCWMConfig(kappa=1e300)
    assert gate(0.0, steep) == pytest.approx(0.15)
    assert gate(1.0, steep) == pytest.approx(0.95)


def test_grows_with_conflict_between_its_bounds() -> None:
    alpha = gate(np.linspace(0, 1, 101), CONFIG)
    assert (np.diff(alpha) > 0).all()
    assert alpha.min() > 0.15
    assert alpha.max() < 0.95


def test_scalar_gives_a_float_and_array_an_array_of_its_shape() -> None:
    assert type(gate(0.5, CONFIG)) is float
    assert type(gate(np.float32(0.5), CONFIG)) is float
    assert gate(np.zeros((2, 3)), CONFIG).shape == (2, 3)


@pytest.mark.parametrize("kind", ["conflict", "none"])
def test_undefined_conflict_gives_an_undefined_gate(kind: str) -> None:
    config = GCWMConfig(gate=kind)  # type: ignore[arg-type]
    assert math.isnan(gate(float("nan"), config))
    alpha = gate(np.array([0.2, np.nan]), config)
    assert math.isnan(alpha[1])
    assert alpha[0] == (1.0 if kind == "none" else gate(0.2, config))


def test_branches_at_the_edges_of_the_skip_tolerance() -> None:
    modes = [branch_mode(alpha, 0.05) for alpha in (0.0, 0.05, 0.0501, 0.9499, 0.95, 1.0)]
    assert modes == ["plain", "plain", "blend", "blend", "geo", "geo"]
    assert [branch_mode(alpha, 0.0) for alpha in (0.0, 0.5, 1.0)] == ["plain", "blend", "geo"]
