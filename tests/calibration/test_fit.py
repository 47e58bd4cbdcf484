"""The fit on losses that are known in closed form: Adam's steps, stopping, and resuming."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gcwm_viz.calibration.fit import Fit, Fitted, run_fit
from gcwm_viz.calibration.settings import CalibrationSettings
from gcwm_viz.errors import InputError
from tests.factories import generator

START = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)


class Bowl:
    """½ Σ h (c − a)², whose held-out loss has its lowest point elsewhere, at ``other``."""

    def __init__(self, other: Tensor | None = None) -> None:
        self.h = torch.rand(3, generator=generator(1), dtype=torch.float64) + 0.5
        self.a = torch.tensor([0.2, 0.9, -0.7], dtype=torch.float64)
        self.other, self.at, self.calls = other, START, 0

    def fitted(self, values_n: Tensor) -> tuple[float, Tensor]:
        self.at, self.calls = values_n, self.calls + 1
        return self._value(values_n), self.h * (values_n - self.a)

    def held_out(self) -> float:
        return math.nan if self.other is None else float((self.at - self.other).square().sum())

    def losses(self, values_n: Tensor) -> tuple[float, float]:
        self.at = values_n
        return self._value(values_n), self.held_out()

    def _value(self, values_n: Tensor) -> float:
        return 0.5 * float((self.h * (values_n - self.a).square()).sum())


def fit(bowl: Bowl, settings: CalibrationSettings, begin: Fit | None = None) -> tuple[Fitted, list[Fit]]:
    kept: list[Fit] = []
    ridge = torch.full_like(START, settings.ridge)
    passes = settings.most_passes(bowl.other is not None)
    return run_fit(bowl, begin or Fit.begin(START), START, ridge, settings, passes, kept.append), kept


def test_the_steps_are_adams() -> None:
    """Against torch's own Adam on the same gradients, with the penalty in the loss."""
    bowl, settings = Bowl(), CalibrationSettings(passes=40, rate=0.05, ridge=0.3)
    values = START.clone().requires_grad_()
    adam = torch.optim.Adam([values], lr=0.05)
    for _ in range(40):
        adam.zero_grad()
        loss = 0.5 * (bowl.h * (values - bowl.a).square()).sum() + 0.15 * (values - START).square().sum()
        loss.backward()
        adam.step()
    torch.testing.assert_close(fit(bowl, settings)[0].values_n, values.detach(), rtol=1e-10, atol=1e-10)


def test_it_ends_at_the_minimum_and_with_a_penalty_between_it_and_the_start() -> None:
    bowl = Bowl()
    free = fit(bowl, CalibrationSettings(passes=4000, ridge=0.0))[0]
    torch.testing.assert_close(free.values_n, bowl.a, rtol=0, atol=1e-6)
    bent = fit(bowl, CalibrationSettings(passes=4000, ridge=0.5))[0]
    torch.testing.assert_close(bent.values_n, (bowl.h * bowl.a + 0.5 * START) / (bowl.h + 0.5), rtol=0, atol=1e-6)


def test_without_probes_held_out_every_pass_is_used_and_the_last_kept() -> None:
    fitted, kept = fit(Bowl(), CalibrationSettings(passes=7, ridge=0.0))
    assert (fitted.stop, fitted.best_pass, len(fitted.fitted_p), len(fitted.held_p)) == ("passes", 7, 8, 0)
    assert torch.equal(fitted.values_n, kept[-1].values_n)
    assert (fitted.fitted_p.diff() < 0).all()


def test_the_values_of_the_lowest_held_out_loss_are_kept() -> None:
    bowl = Bowl(other=torch.tensor([0.8, 0.2, -0.2], dtype=torch.float64))  # on the way, so that the fit goes past it
    fitted, kept = fit(bowl, CalibrationSettings(ridge=0.0))
    assert fitted.stop == "held-out"
    assert 0 < fitted.best_pass < len(fitted.held_p) - 1 < 100
    assert fitted.best_pass == int(fitted.held_p.argmin())
    assert len(fitted.held_p) == fitted.best_pass + 6  # five passes without a lower one
    assert torch.equal(fitted.values_n, kept[fitted.best_pass - 1].values_n)
    bowl.at = fitted.values_n
    assert bowl.held_out() == float(fitted.held_p.min())


def test_a_fit_that_only_harms_keeps_the_start() -> None:
    fitted, _ = fit(Bowl(other=START), CalibrationSettings(patience=3))
    assert fitted.best_pass == 0
    assert torch.equal(fitted.values_n, START)


@pytest.mark.parametrize("other", [None, [0.8, 0.2, -0.2]])
def test_a_resumed_fit_is_the_uninterrupted_one_bit_for_bit(tmp_path: Path, other: list[float] | None) -> None:
    held = None if other is None else torch.tensor(other, dtype=torch.float64)
    settings = CalibrationSettings(passes=30)
    whole, kept = fit(Bowl(held), settings)
    for at in (0, 3, len(kept) - 1):
        kept[at].write(tmp_path / "fit.safetensors")
        bowl = Bowl(held)
        again, _ = fit(bowl, settings, Fit.read(tmp_path / "fit.safetensors", START))
        for name, value in vars(whole).items():
            same = torch.equal(getattr(again, name), value) if isinstance(value, Tensor) else value == vars(again)[name]
            assert same, name
        assert bowl.calls == len(kept) - at - 1


def test_more_passes_go_on_with_the_same_fit() -> None:
    whole = fit(Bowl(), CalibrationSettings(passes=20))[0]
    _, kept = fit(Bowl(), CalibrationSettings(passes=8))
    more = fit(Bowl(), CalibrationSettings(passes=20), kept[-1])[0]
    assert torch.equal(more.values_n, whole.values_n)
    assert torch.equal(more.fitted_p, whole.fitted_p)


def test_a_damaged_file_or_one_of_another_size_begins_again(tmp_path: Path) -> None:
    file = tmp_path / "fit.safetensors"
    assert Fit.read(file, START).passes == 0
    _, kept = fit(Bowl(), CalibrationSettings(passes=4))
    kept[-1].write(file)
    assert Fit.read(file, START).passes == 4
    assert Fit.read(file, START[:2]).passes == 0
    file.write_bytes(file.read_bytes()[:50])
    assert Fit.read(file, START).passes == 0


def test_a_loss_that_is_not_finite_is_named() -> None:
    bowl = Bowl()
    bowl.h = bowl.h * torch.nan
    with pytest.raises(InputError, match=r"before pass 1 is not finite, expected numbers; a lower rate than 0\.03"):
        fit(bowl, CalibrationSettings())


def test_a_fit_that_nothing_stops_is_short() -> None:
    assert len(fit(Bowl(), CalibrationSettings())[0].fitted_p) == 11
    assert len(fit(Bowl(other=Bowl().a), CalibrationSettings(patience=1000))[0].fitted_p) == 101


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(InputError, match="setting held_out must be a finite number"):
        CalibrationSettings(held_out=1.0)
    with pytest.raises(InputError, match="setting per must be one of matrix, layer, family, model, got 'head'"):
        replace(CalibrationSettings(), per="head")
