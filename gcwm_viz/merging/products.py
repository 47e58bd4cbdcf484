"""Products of Adam's steps in less than single precision, opt-in: they take nearly all of its time on a GPU.

``tf32`` rounds both factors to 11 bits inside the GPU's matrix units; elsewhere it computes in float32. ``bf16x3``
splits each factor into two bfloat16 parts, 16 bits together, and adds three products of parts in float32. Geometry,
gate and everything that is computed once stay in float64 and do not change. Shape suffixes: o = rows, i = d_in.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from gcwm_viz.merging.quadratic import Quadratic

Gradient = Callable[[Tensor, Tensor], Tensor]
"""(D, out) → out = 2(DH + G₀)."""


def gradient_of(quadratic: Quadratic, products: str) -> Gradient:
    """:meth:`Quadratic.gradient_at` with the product in ``products``. The factored form is cheap: float32."""
    if products == "float32" or quadratic.hessian_ii is None:
        return quadratic.gradient_at
    if products == "tf32":

        def fast(d_oi: Tensor, out: Tensor) -> Tensor:
            with tf32():
                return quadratic.gradient_at(d_oi, out)

        return fast
    high_ii, low_ii = _halves(quadratic.hessian_ii)
    gradient_oi = quadratic.gradient_oi
    assert gradient_oi is not None

    def split(d_oi: Tensor, out: Tensor) -> Tensor:
        high_oi, low_oi = _halves(d_oi)
        out.copy_(_product(high_oi, low_ii)).add_(_product(low_oi, high_ii)).add_(_product(high_oi, high_ii))
        return out.add_(gradient_oi).mul_(2)

    return split


@contextmanager
def tf32() -> Iterator[None]:
    """Single-precision products in TF32 inside this block, where the device has it."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    high = x.bfloat16()
    return high, (x - high.to(x.dtype)).bfloat16()


def _product(a_oi: Tensor, b_ii: Tensor) -> Tensor:
    """A product of bfloat16 matrices, accumulated and returned in float32."""
    if a_oi.device.type == "cuda":
        return torch.mm(a_oi, b_ii, out_dtype=torch.float32)
    return a_oi.float() @ b_ii.float()
