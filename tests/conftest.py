"""Settings shared by all tests."""

import os

import pytest
import torch
from hypothesis import settings

# One thread unless another number is asked for: two test processes do not fight for the cores.
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

settings.register_profile("project", derandomize=True, deadline=None, max_examples=60, database=None)
settings.load_profile("project")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--torture", action="store_true", help="the long versions, bounded; results to docs/reliability.md"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("long") and not config.getoption("--torture"):
            item.add_marker(pytest.mark.skip(reason="long; `make torture` runs it"))
