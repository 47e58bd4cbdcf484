"""Settings of the merge methods other than GCWM."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from gcwm_viz.errors import InputError

MAX_SEED = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """One name for each coefficient that a paper leaves to its user. Raises :class:`InputError` when out of range.

    ties_keep: share of each update's entries that TIES keeps, the largest magnitudes, in (0, 1].
    dare_drop: probability p in [0, 1) with which DARE drops an entry. dare_seed: seed of its masks.
    localize_keep: share of each update's entries in the mask of Localize-and-Stitch, in (0, 1].
    opcm_energy: share in [0, 1) of the sum of the state's singular values that OPCM's leading block exceeds.
    """

    ties_keep: float = 0.2
    dare_drop: float = 0.9
    dare_seed: int = 0
    localize_keep: float = 0.05
    opcm_energy: float = 0.5

    def __post_init__(self) -> None:
        for name in ("ties_keep", "localize_keep"):
            value = getattr(self, name)
            if not _number(value) or not 0 < value <= 1:
                raise InputError(f"setting {name} must be a number in (0, 1], got {value!r}")
        for name in ("dare_drop", "opcm_energy"):
            value = getattr(self, name)
            if not _number(value) or not 0 <= value < 1:
                raise InputError(f"setting {name} must be a number in [0, 1), got {value!r}")
        seed = self.dare_seed
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
            raise InputError(f"setting dare_seed must be an integer of at least 0, got {seed!r}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MethodSettings":
        known = [entry.name for entry in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise InputError(f"unknown setting {unknown[0]!r}; known are {', '.join(known)}")
        return cls(**values)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
