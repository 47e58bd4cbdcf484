"""Settings of the geometry, the gate and the merge of one matrix."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from gcwm_viz.errors import InputError

LambdaMode = Literal["absolute", "relative"]
Solver = Literal["adam", "exact"]
MetricKind = Literal["barycenter", "mean"]
GateKind = Literal["conflict", "none"]
Numerics = Literal["exact", "release"]
Precision = Literal["float32", "float64"]
Products = Literal["float32", "tf32", "bf16x3"]
_CHOICES = {
    "lambda_mode": LambdaMode,
    "solver": Solver,
    "metric": MetricKind,
    "gate": GateKind,
    "numerics": Numerics,
    "precision": Precision,
    "products": Products,
}


RELATIVE_RIDGE = 10.0


@dataclass(frozen=True, kw_only=True)
class GCWMConfig:
    """GCWM of one matrix (METHOD sections 1, 2 and 5). Raises :class:`InputError` for a setting out of range.

    rank, energy: retained rank is min(rank, smallest k that keeps ``energy`` of ‖Δ‖_F²).
    lam, lambda_mode: shrinkage of the projected covariances: λ = lam (absolute), or λ = lam · Σ ω_i tr S_i² / dim Q
        (relative: γ does not change when every update is scaled alike).
    tau, kappa, alpha_min, alpha_max: the gate, α = α_min + (α_max − α_min) σ(κ(g − τ)) (equation 6).
    skip_tol: α ≤ skip_tol uses the plain branch alone, α ≥ 1 − skip_tol the geometry branch alone.
    ridge: ρ added to 𝓑 before whitening, in the units of ``lam``: the whitening of (𝓑 + ρI)^{-1/2} is the gentler the
        larger it is, while conflict, spectra, gate and the metric of D stay those of λ. 0 is the paper's. None stands
        for 10 under a relative λ and for 0 under an absolute one, where no value suits every scale.
    metric: 𝓑 from the Wasserstein barycenter (equation 7) or from the weighted mean of the covariances (ablation).
    gate: ``conflict``, or ``none`` for α = 1 (ablation).
    solver: ``adam`` (the paper's, ``iters`` steps of ``lr``) or ``exact`` (closed form, proximal strength ``mu_rel``
        in units of tr H / d_in).
    numerics: ``exact`` is float64 in the projected space and a converged barycenter; ``release`` reproduces the
        released code's float32 arithmetic with eigenvalue floors.
    barycenter_iters, barycenter_tol: limit and relative residual of the barycenter's iteration.
    analysis_rank, analysis_energy: truncation for the signals (Sec. 3), which use a basis of their own per pair.
    precision: arithmetic of Adam's steps and of the merged matrices.
    products: of Adam's steps alone, under precision float32: ``tf32`` and ``bf16x3`` are faster on a GPU that has
        them and less exact (see :mod:`gcwm_viz.merging.products`); geometry and gate do not change.
    """

    rank: int = 16
    energy: float = 0.90
    lam: float = 0.01
    lambda_mode: LambdaMode = "relative"
    tau: float = 0.5
    kappa: float = 10.0
    alpha_min: float = 0.15
    alpha_max: float = 0.95
    skip_tol: float = 0.05
    ridge: float | None = None
    metric: MetricKind = "barycenter"
    gate: GateKind = "conflict"
    solver: Solver = "exact"
    iters: int = 100
    lr: float = 1e-5
    mu_rel: float = 0.3
    numerics: Numerics = "exact"
    barycenter_iters: int = 200
    barycenter_tol: float = 1e-10
    analysis_rank: int = 32
    analysis_energy: float = 0.95
    precision: Precision = "float32"
    products: Products = "float32"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in get_args(choices):
                raise InputError(f"setting {name} must be one of {', '.join(get_args(choices))}, got {value!r}")
        for name in ("rank", "analysis_rank", "iters", "barycenter_iters"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"setting {name} must be an integer of at least 1, got {value!r}")
        _in_range(self, "energy", "analysis_energy", low=0.0, high=1.0, open_low=True)
        _in_range(self, "alpha_min", "alpha_max", low=0.0, high=1.0)
        _in_range(self, "skip_tol", low=0.0, high=0.5)
        _in_range(self, "lam", "lr", "mu_rel", "barycenter_tol", low=0.0, open_low=True)
        _in_range(self, "kappa", *(["ridge"] if self.ridge is not None else []), low=0.0)
        _in_range(self, "tau")
        if self.products != "float32" and self.precision != "float32":
            raise InputError(
                f"setting products must be float32 under precision {self.precision}, got {self.products!r}"
            )
        if self.alpha_min > self.alpha_max:
            raise InputError(f"setting alpha_min must not exceed alpha_max, got {self.alpha_min} > {self.alpha_max}")

    @property
    def whitening_ridge(self) -> float:
        """ρ in the units of ``lam``, the default resolved."""
        if self.ridge is None:
            return RELATIVE_RIDGE if self.lambda_mode == "relative" else 0.0
        return self.ridge

    @classmethod
    def preset(cls, name: str) -> "GCWMConfig":
        """``paper``, ``release`` (the released code's settings and arithmetic) or ``scale-free`` (the default)."""
        if name not in PRESETS:
            raise InputError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
        return cls(**PRESETS[name])

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "GCWMConfig":
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise InputError(
                f"unknown setting {unknown[0]!r}; known are {', '.join(field.name for field in fields(cls))}"
            )
        return cls(**values)


_PAPER: dict[str, Any] = {"lam": 1e-6, "tau": 0.12, "lambda_mode": "absolute", "solver": "adam"}
PRESETS: dict[str, dict[str, Any]] = {
    "scale-free": {},
    "paper": _PAPER,
    "release": _PAPER | {"kappa": 12.0, "numerics": "release", "barycenter_iters": 50, "barycenter_tol": 1e-5},
}


def _in_range(
    config: GCWMConfig, *names: str, low: float | None = None, high: float | None = None, open_low: bool = False
) -> None:
    for name in names:
        value = getattr(config, name)
        number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
        below = low is not None and number and (value <= low if open_low else value < low)
        above = high is not None and number and value > high
        if not number or below or above:
            left = "-inf" if low is None else f"{low:g}"
            right = "inf" if high is None else f"{high:g}"
            bracket = "(" if open_low or low is None else "["
            raise InputError(
                f"setting {name} must be a finite number in {bracket}{left}, {right}{')' if high is None else ']'}, "
                f"got {value!r}"
            )
