"""Generated runs of every kind in one run root, and pages run headless on them."""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
import streamlit as st
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from gcwm_viz.attribution.attribute import attribute
from tests import factories_lab
from tests.factories_runs import KINDS, write_run

REPOSITORY = Path(__file__).resolve().parents[2]

components = cache(manifest_scanner.scan_component_manifests)
"""AppTest looks through every installed package for each page it opens; a server does so once."""


@pytest.fixture(scope="session")
def run_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for kind in KINDS:
        write_run(root, kind)
    return root


@pytest.fixture(scope="session")
def where_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real runs: of ``forgetting`` the losses are split over its matrices, ``merged`` has no probes."""
    root = tmp_path_factory.mktemp("where")
    store = factories_lab.forgetting(root)
    attribute(store.path, interpolate=True, workers=1)
    factories_lab.merged(root)
    return root


@pytest.fixture
def open_page(run_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., AppTest]]:
    """open_page("pages/1_Conflict.py", run="nan", step=2) → the page after its first run."""

    def opened(page: str, root: Path = run_root, *, options: Sequence[str] = (), **query: object) -> AppTest:
        monkeypatch.setattr(sys, "argv", ["app.py", "--run-root", str(root), *options])
        monkeypatch.setattr(manifest_scanner, "scan_component_manifests", components)
        monkeypatch.chdir(REPOSITORY)
        app = AppTest.from_file(str(REPOSITORY / "app.py"), default_timeout=30)
        for key, value in query.items():
            app.query_params[key] = str(value)
        if page != "app.py":
            app.switch_page(page)
        return app.run()

    yield opened
    st.cache_resource.clear()
