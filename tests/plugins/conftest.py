import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from gcwm_viz.merging import registry
from gcwm_viz.plugins.loaded import LOADED
from gcwm_viz.signals import catalogue
from tests.torture.small import REPOSITORY
from tests.ui.conftest import components


@contextmanager
def plugins_apart() -> Iterator[None]:
    """Whatever is loaded inside is gone afterwards."""
    tables: tuple[dict[str, Any], ...] = (LOADED, registry.METHODS, catalogue.SIGNALS)
    before = [dict(table) for table in tables]
    try:
        yield
    finally:
        for table, entries in zip(tables, before, strict=True):
            table.clear()
            table.update(entries)


@pytest.fixture
def no_plugins() -> Iterator[None]:
    with plugins_apart():
        yield


@pytest.fixture
def open_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., AppTest]]:
    """open_page("pages/1_Conflict.py", run="mine") → the page after its first run, with ``tmp_path`` as run root."""

    def opened(page: str, **query: str) -> AppTest:
        monkeypatch.setattr(sys, "argv", ["app.py", "--run-root", str(tmp_path)])
        monkeypatch.setattr(manifest_scanner, "scan_component_manifests", components)
        monkeypatch.chdir(REPOSITORY)
        app = AppTest.from_file(str(REPOSITORY / "app.py"), default_timeout=60)
        for key, value in query.items():
            app.query_params[key] = value
        app.switch_page(page)
        return app.run()

    yield opened
    st.cache_resource.clear()
