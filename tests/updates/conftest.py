"""A tiny random base and its target matrices, one for each file of tests."""

import pytest

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.updates.matrices import MatrixKey, target_matrices
from tests.checkpoints import tiny


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> CheckpointIndex:
    return CheckpointIndex.open(tiny.save(tiny.model("qwen3"), tmp_path_factory.mktemp("base")))


@pytest.fixture(scope="module")
def keys(base: CheckpointIndex) -> list[MatrixKey]:
    return target_matrices(base)
