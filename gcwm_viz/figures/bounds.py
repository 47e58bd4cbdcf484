"""The colour range of a heatmap."""

import numpy as np
import pandas as pd


def bounds(values: pd.Series, *, diverging: bool = False, fit: bool = False) -> tuple[float, float]:
    """Colour range for ``values`` (NaN allowed), never empty: from 0 up, or symmetric about zero where ``diverging``.

    fit: from the smallest value instead of 0 (not where diverging), which shows small differences. With ``values`` of
    all steps, colours are comparable between steps.
    """
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    top = float(np.abs(numbers).max()) if diverging and numbers.size else float(numbers.max(initial=0.0))
    if top <= 1e-9:  # zeros and rounding alone, whose range would colour noise
        top = 1.0
    if diverging:
        return -top, top
    low = float(numbers.min()) if fit and numbers.size else 0.0
    return (low, top) if top - low > 1e-9 else (0.0, top)
