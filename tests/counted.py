"""Counters of what must be done once."""

from collections.abc import Callable
from typing import Any

import pytest

from gcwm_viz.geometry import member
from gcwm_viz.linalg.subspace import right_subspace
from gcwm_viz.updates.source import UpdateSource


def counted_work(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often matrices of updates are read and decomposed from now on, in this process."""
    counts = {"read": 0, "decomposed": 0}
    decompose, read = right_subspace, UpdateSource.delta

    def counted(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            counts[name] += 1
            return work(*arguments)

        return call

    monkeypatch.setattr(member, "right_subspace", counted("decomposed", decompose))
    monkeypatch.setattr(UpdateSource, "delta", counted("read", read))
    return counts
