"""What goes wrong in practice, done for real. ``--torture`` runs the long versions and writes their results down."""

import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import Server, chromium, window
from tests.torture.report import Report

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["chromium", "window"]

REPOSITORY = Path(__file__).resolve().parents[2]
_REPORT = Report()


def pytest_sessionstart(session: pytest.Session) -> None:
    _REPORT.began = time.monotonic()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if session.config.getoption("--torture") and exitstatus == 0 and _REPORT.rows:
        machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}"
        _REPORT.write(REPOSITORY / "docs" / "reliability.md", machine)


@pytest.fixture(scope="session")
def torture(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--torture"))


@pytest.fixture(scope="session")
def record() -> Callable[[str, str, str], None]:
    """record(what, load, outcome): one line of the results table."""
    return _REPORT.add


@pytest.fixture
def serve(chromium: "Browser") -> Iterator[Callable[..., Server]]:
    """serve(root, flag, NAME=value) → the app on that run root; stopped when the test ends, however it ends."""
    running = []

    def started(root: Path, *flags: str, **environment: str) -> Server:
        server = Server(root, *flags, environment=environment)
        running.append(server)
        return server

    yield started
    for server in running:
        server.stop()
