"""The wheel in an environment of its own, away from the checkout: its commands, and every page of its app."""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from sysconfig import get_paths

import nbformat
import psutil
import pytest
from nbclient import NotebookClient
from playwright.sync_api import Page, expect

from gcwm_viz.ui.page import PAGES
from tests.browser.conftest import REPOSITORY, Server

LONG_MS = 60_000
PARTS = ("gcwm_viz", "pyproject.toml", "README.md", "LICENSE")


def run(*command: object, cwd: Path) -> str:
    """What the command prints; no variable leads it to the checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    call = [str(part) for part in command]
    done = subprocess.run(call, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build leaves folders in its tree."""
    folder = tmp_path_factory.mktemp("wheel")
    for part in PARTS:
        source, copy = REPOSITORY / part, folder / "tree" / part
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(source, copy)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", folder)
    run(sys.executable, "-m", "pip", "wheel", *options, folder / "tree", cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def commands(wheel: Path) -> Path:
    """Folder of the commands of an environment with the wheel, which borrows what the wheel requires from this one.

    A path file adds the packages of this environment but not what its own path files add, an editable checkout.
    """
    place = wheel.parent / "environment"
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    packages = get_paths(vars={"base": str(place), "platbase": str(place)})["purelib"]
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet", wheel,
        cwd=wheel.parent)  # fmt: skip
    (Path(packages) / "borrowed.pth").write_text(f"{get_paths()['purelib']}\n")
    where = run(python, "-c", "import gcwm_viz; print(gcwm_viz.__file__)", cwd=wheel.parent)
    assert Path(where.strip()).is_relative_to(place)
    return place / "bin"


@pytest.fixture(scope="module")
def runs(commands: Path) -> Path:
    """A run root with the lab, which ``gcwm-viz lab run`` computed."""
    folder = commands.parents[1] / "runs"
    run(commands / "gcwm-viz", "lab", "run", "--out", folder / "lab", cwd=commands)
    return folder


def test_it_has_all_that_the_package_reads(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "gcwm_viz"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    files = tracked or [str(file.relative_to(REPOSITORY)) for file in (REPOSITORY / "gcwm_viz").rglob("*.*")]
    missing = {file for file in files if "__pycache__" not in file} - held
    assert not missing


def test_its_commands_work_anywhere(commands: Path, tmp_path: Path) -> None:
    said = run(commands / "gcwm-viz", "version", cwd=tmp_path)
    assert re.search(r"^gcwm-viz \d+\.\d+\.\d+\npython 3\.", said)
    assert re.search(r"^torch \d", said, re.MULTILINE)
    assert "lab" in run(commands / "gcwm-viz", "--help", cwd=tmp_path)
    script = run(commands / "gcwm-viz", "completion", "bash", cwd=tmp_path)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert "--run-root" in script


def test_every_page_can_be_the_first(commands: Path, runs: Path, tmp_path: Path) -> None:
    """What a page needs, it imports itself."""
    python = commands / "python"
    script = run(python, "-c", "from gcwm_viz.app import SCRIPT; print(SCRIPT)", cwd=tmp_path).strip()
    said = run(python, Path(__file__).with_name("cold.py"), script, runs, "lab", cwd=tmp_path)
    assert json.loads(said.splitlines()[-1]) == dict.fromkeys(PAGES, "")


def test_the_tour_runs(commands: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/tour.ipynb, in a kernel of the environment with the wheel."""
    kernel = runs.parent / "jupyter" / "kernels" / "wheel"
    kernel.mkdir(parents=True)
    call = [str(commands / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": call, "display_name": "wheel", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(runs.parent / "jupyter"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    tour = nbformat.read(  # type: ignore[no-untyped-call]
        REPOSITORY / "docs" / "tour.ipynb", as_version=4
    )
    NotebookClient(tour, kernel_name="wheel", timeout=300, resources={"metadata": {"path": str(runs.parent)}}).execute()
    kinds = [kind for cell in tour.cells for output in cell.get("outputs", []) for kind in output.get("data", {})]
    figures = [cell for cell in tour.cells if re.match(r"run\.\w+\(", cell.source)]
    assert kinds.count("application/vnd.plotly.v1+json") == len(figures) >= 6
    assert kinds.count("text/html") >= 4  # the run twice, two tables, a merged matrix


def test_its_app_is_served_to_this_machine_alone(
    commands: Path, runs: Path, tmp_path: Path, window: Callable[[], Page]
) -> None:
    server = Server(runs, command=[commands / "gcwm-viz", "app", "--run-root", runs], cwd=tmp_path)
    try:
        page = window()
        page.goto(f"{server.url}/Conflict?run=lab")
        expect(page.get_by_role("heading", name="Conflict").first).to_be_visible(timeout=LONG_MS)
        page.get_by_role("link", name="Overview").click()
        expect(page.get_by_text("Overall at the end")).to_be_visible(timeout=LONG_MS)
        addresses = {
            each.laddr.ip
            for each in psutil.Process(server.process.pid).net_connections()
            if each.status == psutil.CONN_LISTEN
        }
    finally:
        server.stop()
    assert addresses
    assert addresses <= {"127.0.0.1", "::1"}  # the configuration came with the wheel
