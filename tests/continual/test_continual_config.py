"""Continual settings, memory policies, command-line settings."""

import json
from typing import Any

import pytest

from gcwm_viz.continual.active_set import active_set
from gcwm_viz.continual.config import RunSettings, parse_setting
from gcwm_viz.continual.sequence import ContinualConfig
from gcwm_viz.errors import InputError


@pytest.mark.parametrize(
    "wrong",
    [
        {"policy": "none"},
        {"memory": 0},
        {"memory": 1.5},
        {"eta": 0.0},
        {"eta": float("nan")},
        {"decay": -1.0},
        {"new_weight": 0.0},
        {"old_weight": float("inf")},
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        ContinualConfig(**wrong)


def test_settings_survive_json() -> None:
    settings = RunSettings.preset_with("release", {"rank": 8, "memory": 3, "eta": 0.5})
    assert RunSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_presets_carry_their_eta() -> None:
    assert RunSettings.preset_with("paper", {}).continual.eta == 0.1
    assert RunSettings.preset_with("release", {}).continual.eta == 0.2
    assert RunSettings.preset_with("paper", {"eta": 0.7}).continual.eta == 0.7


def test_unknown_setting_and_preset_are_refused() -> None:
    with pytest.raises(InputError, match="unknown setting 'kapa'"):
        RunSettings.preset_with("paper", {"kapa": 3})
    with pytest.raises(InputError, match="preset must be one of"):
        RunSettings.preset_with("papers", {})


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("rank=8", ("rank", 8)),
        ("lr=1e-3", ("lr", 1e-3)),
        ("solver=adam", ("solver", "adam")),
        ("memory=none", ("memory", None)),
        ("gate=none", ("gate", "none")),
        ("post=none", ("post", "none")),
    ],
)
def test_settings_on_the_command_line(text: str, parsed: tuple[Any, ...]) -> None:
    assert parse_setting(text) == parsed


@pytest.mark.parametrize("text", ["rank", "=3", "rank="])
def test_half_a_setting_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="key=value"):
        parse_setting(text)


def test_active_sets() -> None:
    config = ContinualConfig(old_weight=0.5, new_weight=2.0)
    assert active_set(1, config).weights == (2.0,)
    assert active_set(3, config).indices == (0, 1, 2)
    assert active_set(3, config).weights == (0.5, 0.5, 2.0)
    assert active_set(4, ContinualConfig(memory=2)).indices == (2, 3)
    anchored = active_set(3, ContinualConfig(policy="current_anchor", old_weight=0.5))
    assert (anchored.indices, anchored.anchored, anchored.weights) == ((2,), True, (0.5, 1.0))


def test_decay_scales_eta_step_by_step() -> None:
    config = ContinualConfig(eta=0.8, decay=0.5)
    assert [config.step_eta(step) for step in (1, 2, 3)] == [0.8, 0.4, 0.2]
