"""What is free for new work: the system's word, and that of a container."""

from pathlib import Path

import pytest

from gcwm_viz.engines import memory


@pytest.mark.parametrize(
    ("system", "limit", "used", "expected"),
    [
        (8_000, None, None, 8_000),
        (8_000, "max", "10", 8_000),
        (8_000, "5000", "1000", 4_000),
        (3_000, "5000", "1000", 3_000),
        (0, "5000", "1000", 4_000),
        (8_000, "5000", "6000", 0),
    ],
)
def test_a_container_may_have_less_than_its_machine(tmp_path, monkeypatch, system, limit, used, expected):
    for name, text in (("_LIMIT", limit), ("_USED", used)):
        file = tmp_path / name
        if text is not None:
            file.write_text(text + "\n")
        monkeypatch.setattr(memory, name, file)
    monkeypatch.setattr(memory, "_system", lambda: system)
    assert memory.available_memory() == expected


def test_this_machine_says_something_plausible():
    total = 1024 * int(next(line for line in Path("/proc/meminfo").read_text().splitlines()).split()[1])
    assert 0 < memory.available_memory() <= total
