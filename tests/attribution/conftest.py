"""Runs that several tests read; tests that write copy them."""

from pathlib import Path

import pytest

from tests.attribution.models import finish, write_inputs


@pytest.fixture(scope="session")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scored merge of three dense updates."""
    root = tmp_path_factory.mktemp("dense")
    return finish(write_inputs(root), root / "run").path


@pytest.fixture(scope="session")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scored merge of three adapters."""
    root = tmp_path_factory.mktemp("adapters")
    return finish(write_inputs(root, adapters=True), root / "run").path
