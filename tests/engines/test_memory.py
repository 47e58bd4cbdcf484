"""What is free for new work: the system's word, and that of a container."""

import os
from pathlib import Path

import pytest

from gcwm_viz.engines import memory


@pytest.mark.parametrize(
    ("system", "limit", "used", "stat", "expected"),
    [
        (8_000, None, None, None, 8_000),
        (8_000, "max", "10", "", 8_000),
        (8_000, "5000", "1000", "anon 7", 4_000),
        (8_000, "5000", "4900", "anon 100\ninactive_file 3000", 3_100),
        (3_000, "5000", "1000", "", 3_000),
        (None, "5000", "1000", "", 4_000),
        (8_000, "5000", "6000", "", 0),
        (None, None, None, None, None),
    ],
)
def test_a_container_may_have_less_than_its_machine(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    system: int | None,
    limit: str | None,
    used: str | None,
    stat: str | None,
    expected: int | None,
) -> None:
    for name, text in (("memory.max", limit), ("memory.current", used), ("memory.stat", stat)):
        if text is not None:
            (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    monkeypatch.setattr(memory, "_system", lambda: system)
    assert memory.available_memory() == expected


def test_this_machine_says_something_plausible() -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = memory.available_memory()
    assert free is not None
    assert 0 < free <= total
