"""The largest entries of an update, by count, the same on every device."""

import torch
from torch import Tensor


def top_magnitudes(x_oi: Tensor, share: float) -> Tensor:
    """Mask (d_out, d_in) of the ⌊share · size⌋ entries of largest magnitude, at least one, never an entry of zero.

    Ties at the boundary are broken in row-major order: the count is exact, and the choice does not depend on a sorting
    routine. Raises ``ValueError`` for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share}")
    magnitudes = x_oi.abs().flatten()
    size = magnitudes.numel()
    count = min(size, max(1, int(share * size)))
    sortable = magnitudes.cpu() if magnitudes.device.type == "mps" else magnitudes  # MPS has no kthvalue
    threshold = sortable.kthvalue(size - count + 1).values.to(magnitudes.device)
    mask = magnitudes > threshold
    missing = count - int(mask.sum())
    mask[torch.nonzero(magnitudes == threshold).flatten()[:missing]] = True
    return (mask & (magnitudes > 0)).reshape(x_oi.shape)
