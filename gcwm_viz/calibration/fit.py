"""Adam on coefficients, stopped by a held-out loss; every pass can be stored and gone on with, bit for bit.

Shape suffixes: n = coefficients, p = passes measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gcwm_viz.calibration.settings import CalibrationSettings
from gcwm_viz.checkpoints.atomic import write_safetensors
from gcwm_viz.errors import InputError

BETAS, EPSILON = (0.9, 0.999), 1e-8


class Objective(Protocol):
    """A loss of coefficients, on the probes of the fit and on those held out."""

    def fitted(self, values_n: Tensor) -> tuple[float, Tensor]:
        """The loss of the fit in nats and its gradient (n,), float64."""

    def losses(self, values_n: Tensor) -> tuple[float, float]:
        """The loss of the fit and the held-out one, NaN where nothing is held out."""

    def held_out(self) -> float:
        """The held-out loss at the coefficients measured last; NaN where nothing is held out."""


@dataclass(frozen=True)
class Fit:
    """A fit after some passes, all float64 on the CPU.

    ``values_n``: where the next pass measures. ``first_n``, ``second_n``: Adam's moments. ``best_n``: the values of the
    lowest held-out loss. ``fitted_p``, ``held_p``: losses at the values before each pass, in nats.
    """

    values_n: Tensor
    first_n: Tensor
    second_n: Tensor
    best_n: Tensor
    fitted_p: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    held_p: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))

    @classmethod
    def begin(cls, start_n: Tensor) -> Fit:
        return cls(start_n, torch.zeros_like(start_n), torch.zeros_like(start_n), start_n)

    @classmethod
    def read(cls, file: Path, start_n: Tensor) -> Fit:
        """The stored fit, or one that begins at ``start_n`` where there is none or the file is damaged."""
        try:
            stored = cls(**load_file(file))
        except (OSError, SafetensorError, TypeError):
            return cls.begin(start_n)
        whole = all(tensor.shape == start_n.shape for tensor in (stored.values_n, stored.best_n, stored.second_n))
        return stored if whole else cls.begin(start_n)

    def write(self, file: Path) -> None:
        write_safetensors(file, vars(self))

    @property
    def passes(self) -> int:
        return len(self.fitted_p)

    @property
    def best_pass(self) -> int:
        """After how many passes the held-out loss was lowest, the first of equal ones; the last without one."""
        return int(self.held_p.argmin()) if len(self.held_p) else self.passes - 1

    def measured(self, fitted: float, held: float) -> Fit:
        """With the losses at ``values_n``, and these kept where their held-out loss is the lowest so far."""
        fitted_p = torch.cat([self.fitted_p, torch.tensor([fitted], dtype=torch.float64)])
        if math.isnan(held):
            return replace(self, fitted_p=fitted_p, best_n=self.values_n)
        best_n = self.values_n if not len(self.held_p) or held < float(self.held_p.min()) else self.best_n
        held_p = torch.cat([self.held_p, torch.tensor([held], dtype=torch.float64)])
        return replace(self, fitted_p=fitted_p, held_p=held_p, best_n=best_n)

    def stepped(self, gradient_n: Tensor, rate: float) -> Fit:
        """One step of Adam (Kingma and Ba 2015, arXiv 1412.6980), the ``passes``-th."""
        (b, c), t = BETAS, self.passes
        first_n = b * self.first_n + (1 - b) * gradient_n
        second_n = c * self.second_n + (1 - c) * gradient_n.square()
        step_n = (first_n / (1 - b**t)) / ((second_n / (1 - c**t)).sqrt() + EPSILON)
        return replace(self, values_n=self.values_n - rate * step_n, first_n=first_n, second_n=second_n)


@dataclass(frozen=True)
class Fitted:
    """``values_n``: the coefficients that are kept, those after ``best_pass`` passes. ``fitted_p``, ``held_p``:
    losses before every pass and after the last. ``stop``: why it ended, ``held-out`` or ``passes``."""

    values_n: Tensor
    best_pass: int
    fitted_p: Tensor
    held_p: Tensor
    stop: str


def run_fit(
    objective: Objective,
    fit: Fit,
    start_n: Tensor,
    ridge_n: Tensor,
    settings: CalibrationSettings,
    passes: int,
    keep: Callable[[Fit], None],
) -> Fitted:
    """Goes on with ``fit`` until the held-out loss has not fallen for ``patience`` passes, or ``passes`` are used up.

    Kept are the values with the lowest held-out loss, the start among them; the last where nothing is held out. The
    penalty ½ρ‖c − start‖² enters the gradient alone, not the losses. ``keep`` is called after every pass.

    Raises :class:`InputError` for a loss or gradient that is not finite.
    """
    while not (stopped := _waited(fit, settings)) and fit.passes < passes:
        loss, gradient_n = objective.fitted(fit.values_n)
        gradient_n = gradient_n + ridge_n * (fit.values_n - start_n)
        if not (math.isfinite(loss) and bool(gradient_n.isfinite().all())):
            raise InputError(
                f"calibration: the loss or its gradient before pass {fit.passes + 1} is not finite, expected numbers; "
                f"a lower rate than {settings.rate:g} may help"
            )
        fit = fit.measured(loss, objective.held_out())
        if not _waited(fit, settings):
            fit = fit.stepped(gradient_n, settings.rate)
        keep(fit)
    if not stopped:
        fit = fit.measured(*objective.losses(fit.values_n))
    return Fitted(fit.best_n, fit.best_pass, fit.fitted_p, fit.held_p, "held-out" if stopped else "passes")


def _waited(fit: Fit, settings: CalibrationSettings) -> bool:
    """Whether the held-out loss has been above its lowest for ``patience`` passes."""
    return len(fit.held_p) > 0 and fit.passes - 1 - fit.best_pass >= settings.patience
