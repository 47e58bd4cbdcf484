"""A real Chromium on a real server. Skipped with its reason where there is no Chromium."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.factories_runs import write_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

REPOSITORY = Path(__file__).resolve().parents[2]
QUIET = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"
_running: list["Browser"] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in Path(item.path).parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> Iterator["Browser"]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on this machine: install Debian's package chromium to run the browser tests")
    api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    api.expect.set_options(timeout=20_000)
    if _running:  # a fixture of another folder has started it; a thread can have one only
        yield _running[0]
        return
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*QUIET.split(), "--no-first-run"])
        _running.append(browser)
        yield browser
        _running.clear()
        browser.close()


class Server:
    """The app on a run root of its own; ``flags`` for Streamlit, ``environment`` for the process. ``command``: another
    one that serves it, in folder ``cwd``."""

    def __init__(
        self,
        root: Path,
        *flags: str,
        environment: Mapping[str, str] | None = None,
        command: Sequence[object] = (),
        cwd: Path = REPOSITORY,
    ) -> None:
        self.root, self.flags, self.environment = root, flags, environment or {}
        self.command, self.cwd = command, cwd
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://localhost:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(self.port)]
        call = [*self.command, "--port", self.port] if self.command else [
            *command, *self.flags, "--", "--run-root", self.root
        ]  # fmt: skip
        self.process = subprocess.Popen(
            list(map(str, call)),
            cwd=self.cwd,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | dict(self.environment),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise RuntimeError("the app did not answer within 60 s")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def serving(root: Path) -> Iterator[Server]:
    """The app on ``root`` while the block runs."""
    running = Server(root)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, chromium: "Browser") -> Iterator[Server]:
    root = tmp_path_factory.mktemp("runs")
    write_run(root, "normal")
    write_run(root, "nan")
    with serving(root) as running:
        yield running


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, chromium: "Browser") -> Path:
    """A run root for the tests of one file, where there is a browser for them."""
    del chromium
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def window(chromium: "Browser") -> Iterator[Callable[[], "Page"]]:
    """A fresh browser window; a second call gives a second one, as another reader would have."""
    contexts = []

    def opened() -> "Page":
        context = chromium.new_context(viewport={"width": 1440, "height": 1000}, reduced_motion="reduce")
        context.set_default_timeout(20_000)
        contexts.append(context)
        return context.new_page()

    yield opened
    for context in contexts:
        context.close()
