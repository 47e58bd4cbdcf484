"""The strength of an update: the factor s by which its Δ is multiplied before anything else reads it.

Geometry, merge, signals, norms, the expert base + sΔ: everything takes sΔ for the update. It is not the strength of a
merge (``runs/strength.py``), which scales the final state.
"""

import math
from collections.abc import Mapping
from typing import TypeGuard

from gcwm_viz.errors import InputError

WHOLE = 1.0
"""The strength of an update that is taken as it is."""
MOST = 10.0
RANGE = f"a number above 0 and at most {MOST:g}"


def is_strength(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a number in (0, 10]; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 < value <= MOST


def checked(value: object, update: str) -> float:
    """``value`` as a float. Raises :class:`InputError`, which names the update, where it is no strength."""
    if is_strength(value):
        return float(value)
    raise InputError(f"update {update[:100]!r}: expected its strength as {RANGE}, found {str(value)[:50]!r}")


def from_text(value: object) -> object:
    """The number that a text is; anything else as it is. YAML reads 1e-1 as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def in_words(strengths: Mapping[str, float]) -> str:
    """``law 0.33, code 2``: updates by name, each with its strength."""
    return ", ".join(f"{name} {strength:g}" for name, strength in strengths.items())
