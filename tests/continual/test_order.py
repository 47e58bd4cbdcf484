"""When the final model depends on the order of arrival, and that it does not otherwise."""

from typing import Any

import pytest
import torch

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.final import final_state
from gcwm_viz.continual.order import order_matters
from gcwm_viz.linalg.lowrank import dense
from gcwm_viz.updates.matrices import MatrixKey
from tests.factories import updates

KEY = MatrixKey("m", 0, "q_proj", (10, 8))
CASES: list[tuple[dict[str, Any], str, str]] = [
    ({}, "gcwm", ""),
    ({"eta": 0.3}, "ties", ""),
    ({}, "task-arithmetic", ""),
    ({"memory": 2}, "task-arithmetic", "last 2"),
    ({"decay": 0.9}, "task-arithmetic", "η changes"),
    ({"policy": "current_anchor"}, "gcwm", "current_anchor"),
    ({"new_weight": 2.0}, "gcwm", "another weight"),
    ({}, "opcm", "one update at a time"),
]


@pytest.mark.parametrize(("overrides", "method", "says"), CASES)
def test_it_says_why_the_order_matters(overrides: Any, method: str, says: str) -> None:
    found = order_matters(RunSettings.preset_with("scale-free", overrides, method))
    assert (says in found) if says else found == ""


@pytest.mark.parametrize(("overrides", "method", "says"), CASES)
def test_it_says_what_is_so(overrides: Any, method: str, says: str) -> None:
    """The final state of one matrix in two orders."""
    settings = RunSettings.preset_with("scale-free", overrides, method)
    own = dict(zip("abc", updates(3, 10, 8, overlap=0.7, seed=3), strict=True))
    first, second = (
        dense(final_state(KEY, list(order), [own[name] for name in order], settings)) for order in ("abc", "cab")
    )
    # Merges are float32 sums of three matrices of norm 1, and a solver's residual.
    assert torch.allclose(first, second, atol=1e-5) == (says == "")


def test_training_is_always_in_order() -> None:
    assert "training" in order_matters(RunSettings.preset_with("scale-free", {}), trained=True)
