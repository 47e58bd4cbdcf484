"""Every signal keeps to its declaration."""

import pytest
import torch

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.result import process_matrix
from gcwm_viz.errors import InputError
from gcwm_viz.runs.tables import columns
from gcwm_viz.signals import catalogue
from gcwm_viz.signals.signal import Signal
from gcwm_viz.updates.matrices import MatrixKey
from tests.factories import updates
from tests.rounding import rounding

KEY = MatrixKey("model.layers.0.mlp.up_proj.weight", 0, "up_proj", (14, 10))
BOUND = 4 * rounding(14)
"""A few products over matrices up to 14 wide: a share of one may round above it."""


@pytest.mark.parametrize("method", ["gcwm", "wudi", "ties"])
@pytest.mark.parametrize("absent", [None, 0, 1, 2])
def test_values_lie_in_the_declared_range(method: str, absent: int | None) -> None:
    deltas: list[torch.Tensor | None] = [*updates(3, *KEY.shape, seed=5)]
    if absent is not None:
        deltas[absent] = None
    rows = process_matrix(KEY, ["a", "b", "c"], deltas, RunSettings.preset_with("scale-free", {}, method)).rows[
        "matrices"
    ]
    defined = set()
    for row in rows:
        for signal in catalogue.computed():
            value = row[signal.column]
            if value == value:
                defined.add(signal.column)
                assert signal.least is None or value >= signal.least - BOUND, signal.column
                assert signal.most is None or value <= signal.most + BOUND, signal.column
    gated = {"alpha", "displacement", "geo_shift"}
    solved = {"plain_shift"}
    missing = {"gcwm": set(), "wudi": gated, "ties": gated | solved}[method]
    assert defined == {signal.column for signal in catalogue.computed()} - missing


def test_the_tables_say_what_a_signal_declares() -> None:
    assert columns("matrices")["state_gap"] == "M_t − A_t, in [-1, 1]"
    assert columns("steps")["update_norm"] == "mean over matrices: norm of the arriving update, in [0, ∞)"
    assert {"conflict_min", "conflict_max", "alpha_min", "alpha_max"} <= set(columns("steps"))


def test_diverging_signals_are_those_below_zero() -> None:
    for signal in catalogue.SIGNALS.values():
        assert signal.diverging == (signal.least is None or signal.least < 0), signal.column


def test_a_column_is_declared_once() -> None:
    with pytest.raises(InputError, match="signal 'sar' is there already: Subspace overlap"):
        catalogue.register(Signal(column="sar", title="Another", line="Another."))
