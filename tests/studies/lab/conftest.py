"""Every study here is one of the tiny lab."""

from collections.abc import Iterator

import pytest

from gcwm_viz.studies.lab import study
from tests.experiments.lab.tiny_lab import TinyLibrary


@pytest.fixture(scope="module", autouse=True)
def tiny_lab() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gcwm_viz.studies.lab.bench.Library", TinyLibrary)
        yield
    study._OPEN.clear()
