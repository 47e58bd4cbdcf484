import numpy as np
import pytest
import torch

from gcwm_viz.linalg import psd
from gcwm_viz.linalg.psd import PARTIAL_SIZE, eigh_psd, leading_eigh, powm, sqrtm, symmetrize
from gcwm_viz.linalg.subspace import right_subspace
from tests.factories import covariances, generator, orthogonal, updates
from tests.rounding import rounding, truncation


def test_root_squares_to_the_matrix_in_a_batch() -> None:
    a = covariances(4, 12, smallest=1e-8)
    root = sqrtm(a)
    # Norm 1: an eigendecomposition, the product for the root, and the square.
    torch.testing.assert_close(root @ root, a, rtol=0, atol=3 * rounding(12))
    torch.testing.assert_close(root, root.mT, rtol=0, atol=rounding(12))
    assert (torch.linalg.eigvalsh(root) > 0).all()


def test_rounding_below_zero_becomes_zero_and_never_nan() -> None:
    q = orthogonal(8, 0)
    values = torch.tensor([-1e-17, 0.0, 0.0, 0.0, 1e-3, 0.1, 0.5, 1.0], dtype=torch.float64)
    a = (q * values) @ q.mT
    assert eigh_psd(a)[0].min() >= 0
    assert torch.isfinite(sqrtm(a)).all()


def test_floor_raises_only_what_lies_below_it() -> None:
    values, _ = eigh_psd(torch.diag(torch.tensor([1e-9, 0.5, 2.0])), floor=1e-6)
    torch.testing.assert_close(values, torch.tensor([1e-6, 0.5, 2.0]))


def test_powers_of_one_decomposition_combine() -> None:
    a = covariances(1, 10)[0]
    values, vectors = eigh_psd(a)
    whiten, recolour = powm(values, vectors, -0.5), powm(values, vectors, 0.5)
    # Three products, of norms 1e3^½ and 1.
    identity = torch.eye(10, dtype=a.dtype)
    torch.testing.assert_close(whiten @ recolour, identity, rtol=0, atol=3 * rounding(10, condition=1e3**0.5))
    # An eigendecomposition and a product.
    torch.testing.assert_close(powm(values, vectors, 1.0), a, rtol=0, atol=2 * rounding(10))


def test_symmetrize_keeps_a_symmetric_matrix_to_the_bit() -> None:
    a = symmetrize(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(symmetrize(a), a)


def spectrum(kind: str, n: int) -> torch.Tensor:
    if kind == "low rank":
        return torch.cat([torch.linspace(2, 1, 5, dtype=torch.float64), torch.zeros(n - 5, dtype=torch.float64)])
    if kind == "flat":
        return torch.ones(n, dtype=torch.float64)
    if kind == "tiny gaps":
        return 1 + 1e-9 * torch.arange(n, 0, -1, dtype=torch.float64)
    return torch.logspace(0, -14, n, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["low rank", "flat", "tiny gaps", "graded", "random"])
def test_leading_part_is_that_of_the_full_decomposition(kind: str) -> None:
    n, count = PARTIAL_SIZE + 40, 32
    if kind == "random":
        x = torch.randn(n, 2 * n, generator=generator(1), dtype=torch.float64)
        a = x @ x.mT
    else:
        q = orthogonal(n, 3)
        a = symmetrize((q * spectrum(kind, n)) @ q.mT)
    values, vectors = leading_eigh(a, count)
    every, _ = torch.linalg.eigh(a)
    scale = float(every[-1])
    bound = 2 * rounding(n)  # of each decomposition, or of one and the product that checks it
    torch.testing.assert_close(values, every.flip(0)[:count].clamp_min(0), rtol=0, atol=bound * scale)
    torch.testing.assert_close(vectors.mT @ vectors, torch.eye(count, dtype=torch.float64), rtol=0, atol=bound)
    torch.testing.assert_close(a @ vectors, vectors * values, rtol=0, atol=bound * scale)


def test_an_unsound_partial_decomposition_is_replaced_by_the_full_one(monkeypatch: pytest.MonkeyPatch) -> None:
    n = PARTIAL_SIZE
    q = orthogonal(n, 4)
    a = symmetrize((q * torch.linspace(1, 2, n, dtype=torch.float64)) @ q.mT)
    expected = torch.linspace(1, 2, n, dtype=torch.float64).flip(0)[:4]

    def wrong(*_: object, **__: object) -> tuple[object, object]:
        return np.ones(4), np.ones((n, 4))

    monkeypatch.setattr(psd, "eigsh", wrong)
    # The products that build the matrix, and its decomposition.
    torch.testing.assert_close(leading_eigh(a, 4)[0], expected, rtol=3 * rounding(n), atol=0)


@pytest.mark.parametrize("shape", [(700, 300), (300, 700)])
def test_a_large_update_has_the_subspace_of_its_full_svd(shape: tuple[int, int]) -> None:
    delta = updates(1, *shape, decay=0.4)[0]
    subspace = right_subspace(delta, 32, 0.95)
    _, singular, vt = torch.linalg.svd(delta.double(), full_matrices=False)
    r = subspace.rank
    spread = float((singular[0] / singular[r - 1]) ** 2)
    # The Gram matrix and its decomposition are exact to the largest energy; the last vector turns by that over its gap.
    energy = 2 * rounding(700, condition=spread)
    torch.testing.assert_close(subspace.energies_r, singular[:r].square(), rtol=energy, atol=0)
    turn = 2 * rounding(700, condition=spread * truncation(delta, r))
    torch.testing.assert_close(subspace.v_ir @ subspace.v_ir.mT, vt[:r].mT @ vt[:r], rtol=0, atol=turn)
