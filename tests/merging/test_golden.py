"""Every reference case at the tolerances it is published with, in the default single precision and in double."""

import pytest
import torch
from torch import Tensor

from gcwm_viz import LayerMerge, merge_layer
from tests.factories import dense_metric
from tests.golden import MANIFEST, config, tensors
from tests.rounding import rounding

CASES = sorted(MANIFEST)
RELATIVE = 1e-6


def frobenius(ours: Tensor, reference: Tensor) -> float:
    return float(torch.linalg.matrix_norm(ours.double() - reference) / torch.linalg.matrix_norm(reference))


@pytest.fixture(params=["float32", "float64"], scope="module")
def precision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def merge(name: str, **changes: str) -> tuple[LayerMerge, dict[str, Tensor]]:
    reference = tensors(name)
    return merge_layer(reference["updates"], MANIFEST[name]["weights"], config(name, **changes)), reference


@pytest.mark.parametrize("name", CASES)
def test_geometry_and_merge(name: str, precision: str) -> None:
    expected = MANIFEST[name]
    merge_, reference = merge(name, precision=precision)
    assert merge_.union_rank == expected["union_rank"]
    assert list(merge_.retained_ranks) == expected["retained_ranks"]
    # Zero conflict (identical, single) is zero to rounding: no relative error exists there.
    zero = 4 * rounding(merge_.union_rank)
    assert merge_.conflict == pytest.approx(expected["conflict"], rel=RELATIVE, abs=zero)
    assert merge_.alpha == pytest.approx(expected["alpha"], abs=1e-6)
    torch.testing.assert_close(
        merge_.pairwise_conflict, reference["pairwise_conflict"], rtol=RELATIVE, atol=zero, check_device=False
    )
    torch.testing.assert_close(merge_.sar, reference["sar"], rtol=RELATIVE, atol=zero)
    for index, spectrum in enumerate(merge_.spectra):
        torch.testing.assert_close(spectrum, reference[f"spectrum_{index}"], rtol=RELATIVE, atol=0)
    torch.testing.assert_close(merge_.barycenter_spectrum, reference["barycenter_spectrum"], rtol=RELATIVE, atol=0)
    assert merge_.barycenter_residual <= 1e-8
    assert merge_.geometry.metric is not None
    assert frobenius(dense_metric(merge_.geometry.metric), reference["metric"]) <= RELATIVE
    for branch in ("plain", "geo", "merged"):
        assert frobenius(getattr(merge_, branch), reference[branch]) <= 1e-5, branch
    assert merge_.merged.dtype == getattr(torch, precision)


@pytest.mark.parametrize("name", CASES)
def test_released_arithmetic(name: str) -> None:
    expected = MANIFEST[name]
    merge_, reference = merge(name, numerics="release")
    assert merge_.union_rank == expected["release_union_rank"]
    assert merge_.conflict == pytest.approx(expected["release_conflict"], abs=2e-2)
    assert merge_.alpha == pytest.approx(expected["release_alpha"], abs=2e-2)
    assert isinstance(merge_.merged, Tensor)
    assert frobenius(merge_.merged, reference["release_merged"].double()) <= 2e-2


def test_the_shipped_copies_hold_every_kind_of_case() -> None:
    assert {"pair", "wide", "weighted", "small_norm", "lora", "identical", "disjoint", "single"} <= set(CASES)
    # The case that tells the two arithmetics apart.
    small = MANIFEST["small_norm"]
    assert small["release_conflict"] == 0.0 < 0.5 < small["conflict"]
