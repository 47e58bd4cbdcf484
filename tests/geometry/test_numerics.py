"""What single precision with an eigenvalue floor does to small updates, and what the exact arithmetic keeps."""

from collections.abc import Iterator

import pytest

from gcwm_viz import GCWMConfig, LayerGeometry, layer_geometry
from tests.factories import updates

NORMS = (1.77, 0.53, 0.18, 0.053, 0.0053)


def geometries(config: GCWMConfig) -> Iterator[LayerGeometry]:
    stack = updates(3, 256, 256, decay=0.7, overlap=0.1)
    for norm in NORMS:
        yield layer_geometry(norm * stack, config=config)


@pytest.fixture(scope="module")
def exact() -> list[LayerGeometry]:
    return list(geometries(GCWMConfig.preset("paper")))


@pytest.fixture(scope="module")
def released() -> list[LayerGeometry]:
    return list(geometries(GCWMConfig.preset("release")))


def test_without_shrinkage_conflict_is_high_at_every_scale() -> None:
    limit = [g.conflict for g in geometries(GCWMConfig(lam=1e-12))]
    assert min(limit) > 0.6
    # The updates are single precision, rescaled there: each scale is a rounding of the same matrices.
    assert max(limit) - min(limit) < 1e-5


def test_the_floor_hides_the_conflict_of_small_updates(
    exact: list[LayerGeometry], released: list[LayerGeometry]
) -> None:
    # Large updates: the two agree to the few per cent that the floor costs there.
    assert released[0].conflict == pytest.approx(exact[0].conflict, abs=0.05)
    # Small ones: the float32 answer is none at all, and the gate closes on it.
    for small in released[3:]:
        assert small.conflict == 0.0
        assert small.alpha == pytest.approx(0.15 + 0.8 / (1 + 2.718281828459045 ** (12 * 0.12)), abs=1e-6)
    assert exact[3].conflict > 0.4
    assert exact[3].alpha > 0.9
    assert exact[4].conflict > 0.01


def test_absolute_shrinkage_fades_the_signal_as_updates_shrink(exact: list[LayerGeometry]) -> None:
    conflicts = [g.conflict for g in exact]
    assert conflicts == sorted(conflicts, reverse=True)
    shares = [float(g.lambda_shares.max()) for g in exact]
    assert shares == sorted(shares)
    assert shares[0] < 0.05 < shares[-1]


def test_the_released_barycenter_stops_short(exact: list[LayerGeometry], released: list[LayerGeometry]) -> None:
    assert all(g.barycenter is not None and g.barycenter.residual <= 1e-8 for g in exact)
    true, stopped = exact[0].barycenter, released[0].barycenter
    assert true is not None
    assert stopped is not None
    # A barycenter's trace does not depend on the basis the two computations chose.
    trace = float(true.value_nn.trace())
    assert abs(float(stopped.value_nn.double().trace()) - trace) / trace > 1e-3
