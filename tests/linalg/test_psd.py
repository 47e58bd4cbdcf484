import torch

from gcwm_viz.linalg.psd import eigh_psd, powm, sqrtm, symmetrize
from tests.factories import covariances, orthogonal

EPS = torch.finfo(torch.float64).eps


def test_root_squares_to_the_matrix_in_a_batch() -> None:
    a = covariances(4, 12, smallest=1e-8)
    root = sqrtm(a)
    # Norm 1, so an eigendecomposition and two products leave some n·eps.
    torch.testing.assert_close(root @ root, a, rtol=0, atol=20 * 12 * EPS)
    torch.testing.assert_close(root, root.mT, rtol=0, atol=12 * EPS)
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
    # Condition 1e3: the product is exact to its root times n·eps.
    torch.testing.assert_close(whiten @ recolour, torch.eye(10, dtype=a.dtype), rtol=0, atol=1e-12)
    torch.testing.assert_close(powm(values, vectors, 1.0), a, rtol=0, atol=1e-14)


def test_symmetrize_keeps_a_symmetric_matrix_to_the_bit() -> None:
    a = symmetrize(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(symmetrize(a), a)
