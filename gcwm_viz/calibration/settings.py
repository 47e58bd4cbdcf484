"""Settings of a calibration."""

from dataclasses import dataclass
from typing import Literal

from gcwm_viz.settings.declare import Settings, choice, integer, number

Per = Literal["matrix", "layer", "family", "model"]
Sources = Literal["all", "state"]
STOPPED, UNSTOPPED = 100, 10
"""Passes by default, of a fit that held-out probes stop and of one that nothing stops (chosen on development probes
that no fit saw, docs/findings.md)."""
Objective = Literal["nll", "entropy"]
Prior = Literal["none", "conflict", "interference"]


@dataclass(frozen=True, kw_only=True)
class CalibrationSettings(Settings):
    """How coefficients are fitted; all but ``passes`` belong to the identity of the result."""

    per: str = choice("matrix", "what has coefficients of its own", Per)
    sources: str = choice("all", "coefficients of the merged state and every update, or of the state alone", Sources)
    objective: str = choice(
        "nll", "nll of the right answers, or entropy of the model's own, which needs no answers", Objective
    )
    passes: int | None = integer(
        None, f"forward and backward passes over the fitted probes, at most; none: {STOPPED}, and {UNSTOPPED} where no "
        "probe is held out", most=100_000, optional=True,
    )  # fmt: skip
    rate: float = number(0.03, "step size of Adam", above=0, most=10)
    ridge: float = number(
        0.02, "ρ of the penalty ½ρ Σ (c − start)² on the coefficients", unit="nats per token", least=0, most=1e6
    )
    held_out: float = number(0.25, "share of a task's probes that stops the fit and is not fitted", least=0, most=0.9)
    patience: int = integer(5, "passes without a lower held-out loss before the fit stops")
    probes_per_task: int | None = integer(None, "development probes of a task that are used, drawn by the seed",
                                          optional=True)  # fmt: skip
    prior: str = choice(
        "none", "score of a matrix before the fit: a higher one is penalised less, and chosen first by cells", Prior
    )
    cells: int | None = integer(
        None, "matrices with coefficients, those with the highest prior; drawn by the seed without one", optional=True
    )
    seed: int = integer(0, "of the draw of probes, and of cells", least=0)

    def most_passes(self, held_out: bool) -> int:
        """``passes``, or the default of a fit with or without held-out probes."""
        return (STOPPED if held_out else UNSTOPPED) if self.passes is None else self.passes
