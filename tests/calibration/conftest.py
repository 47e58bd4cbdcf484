"""Runs that several tests read; tests that write copy them."""

import shutil
from pathlib import Path

import pytest

from tests.attribution.models import finish, write_inputs


@pytest.fixture(scope="session")
def dense_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scored merge of three dense updates; each touches one matrix fewer than the one before."""
    root = tmp_path_factory.mktemp("dense")
    return finish(write_inputs(root, size=2.0), root / "run").path


@pytest.fixture(scope="session")
def adapter_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scored merge of three adapters."""
    root = tmp_path_factory.mktemp("adapters")
    return finish(write_inputs(root, adapters=True), root / "run").path


@pytest.fixture
def run(dense_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dense_run, tmp_path / "run"))


@pytest.fixture
def adapted(adapter_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(adapter_run, tmp_path / "run"))
