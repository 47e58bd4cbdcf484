"""Settings of the geometry, the gate and the merge of one matrix, and the presets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gcwm_viz.errors import InputError
from gcwm_viz.settings.declare import Settings, choice, integer, number

LambdaMode = Literal["absolute", "relative"]
Solver = Literal["adam", "exact"]
MetricKind = Literal["barycenter", "mean"]
GateKind = Literal["conflict", "none"]
Numerics = Literal["exact", "release"]
Precision = Literal["float32", "float64"]
Products = Literal["float32", "tf32", "bf16x3"]
Filter = Literal["proximal", "exponential"]

RELATIVE_RIDGE = 10.0
SOLVER_SETTINGS = (
    *("solver", "iters", "lr", "mu_rel", "filter", "filter_time", "filter_share"),
    *("precision", "products"),
)
"""Settings that act after the geometry: merges that differ in these alone have the same geometry."""


@dataclass(frozen=True, kw_only=True)
class GCWMConfig(Settings):
    """Settings of GCWM of one matrix (arXiv 2605.09608). Raises ``InputError`` for a setting out of range."""

    rank: int = integer(16, "retained rank of an update for the gate: min(rank, smallest k that keeps the energy)")
    energy: float = number(0.90, "share of ‖Δ‖_F² that the retained rank keeps", above=0, most=1)
    lam: float = number(
        0.01,
        "shrinkage of the projected covariances: λ = lam (absolute), or λ = lam · Σ ω_i tr S_i² / dim Q (relative: γ "
        "does not change when every update is scaled alike)",
        above=0,
    )
    lambda_mode: LambdaMode = choice("relative", "whether lam is λ itself or a share of the mean energy", LambdaMode)
    tau: float = number(0.5, "conflict at which the gate is halfway: α = α_min + (α_max − α_min) σ(κ(g − τ)) (eq. 6)")
    kappa: float = number(10.0, "steepness κ of the gate", least=0)
    alpha_min: float = number(0.15, "α at no conflict", least=0, most=1)
    alpha_max: float = number(0.95, "α at full conflict", least=0, most=1)
    skip_tol: float = number(
        0.05, "α ≤ skip_tol takes the plain branch alone, α ≥ 1 − skip_tol the geometry branch alone", least=0, most=0.5
    )
    ridge: float | None = number(
        None,
        "ρ added to 𝓑 before whitening, in the units of lam: the larger, the gentler the whitening, while conflict, "
        "spectra, gate and the metric of D stay those of λ; 0 is the paper's; none stands for 10 under a relative λ "
        "and for 0 under an absolute one, where no value suits every scale",
        least=0,
        optional=True,
    )
    metric: MetricKind = choice(
        "barycenter",
        "𝓑 from the Wasserstein barycenter (eq. 7) or from the weighted mean of the covariances (ablation)",
        MetricKind,
    )
    gate: GateKind = choice("conflict", "the conflict gate, or none for α = 1 (ablation)", GateKind)
    solver: Solver = choice("exact", "closed form with a proximal weight, or the paper's Adam", Solver)
    iters: int = integer(100, "steps of Adam")
    lr: float = number(1e-5, "learning rate of Adam", above=0)
    mu_rel: float = number(0.3, "proximal weight μ of the closed form", unit="tr H / d_in", above=0)
    filter: Filter = choice(
        "proximal",
        "share φ of the way to the minimum that the closed form goes along an eigenvector of H with eigenvalue λ: "
        "λ/(λ + μ), or 1 − exp(−λt), where gradient descent is after time t (arXiv 2606.07289)",
        Filter,
    )
    filter_time: float = number(3.0, "time t of the exponential filter", unit="d_in / tr H", above=0)
    filter_share: float = number(
        1.0, "share of H's eigenvectors along which the exponential filter moves, the leading ones", above=0, most=1
    )
    numerics: Numerics = choice(
        "exact",
        "float64 in the projected space and a converged barycenter, or the released code's float32 arithmetic with "
        "eigenvalue floors",
        Numerics,
    )
    barycenter_iters: int = integer(200, "most iterations of the barycenter")
    barycenter_tol: float = number(1e-10, "relative residual at which the barycenter has converged", above=0)
    analysis_rank: int = integer(32, "retained rank for the signals (Sec. 3), which use a basis of their own per pair")
    analysis_energy: float = number(0.95, "share of ‖Δ‖_F² that the analysis rank keeps", above=0, most=1)
    precision: Precision = choice("float32", "arithmetic of Adam's steps and of the merged matrices", Precision)
    products: Products = choice(
        "float32",
        "products of Adam's steps alone, under precision float32: tf32 and bf16x3 are faster on a GPU that has them, "
        "and less exact; geometry and gate do not change",
        Products,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
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
        return cls(**get_preset(name).geometry)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named set of settings: those of :class:`GCWMConfig` that differ from its defaults, and η."""

    name: str
    summary: str
    eta: float
    geometry: Mapping[str, Any] = field(default_factory=dict)


_PAPER: dict[str, Any] = {"lam": 1e-6, "tau": 0.12, "lambda_mode": "absolute", "solver": "adam"}
_RELEASE = {"kappa": 12.0, "numerics": "release", "barycenter_iters": 50, "barycenter_tol": 1e-5}

# The paper sweeps η around 0.1 and the released launcher uses 0.2; the exact solver is at its best near 1.
PRESETS = {
    preset.name: preset
    for preset in (
        Preset(name="scale-free", summary="our default", eta=1.0),
        Preset(name="paper", summary="the settings of the paper", eta=0.1, geometry=_PAPER),
        Preset(name="release", summary="the released code and its arithmetic", eta=0.2, geometry=_PAPER | _RELEASE),
    )
}
DEFAULT_PRESET = "scale-free"
WITHOUT_PROBES = 0.7
"""η of that preset for a run without development probes: the largest of the usual ones at which the merge is not worse
than half of the plain sum on the lab and on SmolLM2's adapters (docs/findings.md)."""


def get_preset(name: str) -> Preset:
    """Raises :class:`InputError` for an unknown name."""
    if name not in PRESETS:
        raise InputError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]
