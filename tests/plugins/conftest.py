from collections.abc import Iterator
from typing import Any

import pytest

from gcwm_viz.merging import registry
from gcwm_viz.plugins import loading
from gcwm_viz.signals import catalogue


@pytest.fixture
def no_plugins() -> Iterator[None]:
    """Whatever a test loads is gone afterwards."""
    tables: tuple[dict[str, Any], ...] = (loading._LOADED, registry.METHODS, catalogue.SIGNALS)
    before = [dict(table) for table in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)
