"""What one update holds for a base."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What one update holds for the base: ``touched`` target matrices, ``missing`` ones, tensors outside them that
    are ``ignored``, those that the base does not have (``extra``), and outside ones of another shape
    (``resized``: name, found, expected). ``strength``: what its Δ is multiplied by."""

    update: str
    kind: str
    path: str
    touched: list[str]
    missing: list[str]
    ignored: list[str]
    extra: list[str]
    resized: list[tuple[str, tuple[int, ...], tuple[int, ...]]]
    bytes_to_read: int
    strength: float

    def row(self) -> dict[str, object]:
        """Counts for a table."""
        return {
            "update": self.update,
            "kind": self.kind,
            "strength": self.strength,
            "path": self.path,
            "matrices": len(self.touched),
            "missing": len(self.missing),
            "ignored": len(self.ignored),
            "extra": len(self.extra),
            "resized": len(self.resized),
            "bytes_to_read": self.bytes_to_read,
        }
