"""Every signal, in the order of the tables' columns: :data:`SIGNALS`, followed by those of plug-ins."""

from collections.abc import Callable

from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import difference, norm
from gcwm_viz.signals.pairwise import mean_pair, symmetric_sar
from gcwm_viz.signals.signal import Signal
from gcwm_viz.signals.step import Step

NAN = float("nan")
_GAMMA = r"\gamma_{ij}=\frac{d_{\mathrm{BW}}^2(B_i,B_j)}{\operatorname{tr}B_i+\operatorname{tr}B_j+\varepsilon}"
_SHIFT = r"\lVert M-M_0\rVert_F/\lVert M_0\rVert_F,\quad M_0=\textstyle\sum_i\Delta_i"


def _shift(branch: str) -> Callable[[Step], float]:
    def of(step: Step) -> float:
        merge = step.own_merge
        return merge.branches[branch].shift if merge is not None and branch in merge.branches else NAN

    return of


def _alpha(step: Step) -> float:
    return NAN if step.own_merge is None else step.own_merge.alpha


def _displacement(step: Step) -> float:
    return NAN if step.own_merge is None else step.own_merge.displacement


def _update_norm(step: Step) -> float:
    return 0.0 if step.arriving.analysis is None else float(step.arriving.analysis.total_energy**0.5)


def _lambda_share(step: Step) -> float:
    shares = step.geometry.lambda_shares[~step.geometry.lambda_shares.isnan()]
    return float(shares.max()) if len(shares) else NAN


def _overcount(step: Step) -> float:
    return NAN if step.counts is None else step.counts.overcount


def _leading_count(step: Step) -> float:
    found = step.counts
    energy = 0.0 if found is None else float(found.energy_mr[:, 0].sum())
    return NAN if found is None or not energy > 0 else float(found.inner_mr[:, 0].sum()) / energy


GATE_CONFLICT = Signal(
    column="conflict",
    title="Layer conflict g",
    line="The weighted conflict that the gate reads, in the union basis of the active updates. Higher = more conflict.",
    formula=r"g=\sum_{i<j}w_{ij}\gamma_{ij},\quad w_{ij}\propto\omega_i\omega_j",
    source="equation (5)",
    meaning="layer conflict g of the active updates (eq. 5), the gate's input",
    extremes=True,
    page="Gate",
    summary=True,
    explained=False,
    of=lambda step: step.geometry.conflict,
)
ALPHA = Signal(
    column="alpha",
    title="Gate α",
    line="Share of the geometry branch in the merge. 0 = plain branch only, 1 = geometry branch only.",
    formula=r"\alpha=\alpha_{\min}+(\alpha_{\max}-\alpha_{\min})\,\sigma(\kappa(g-\tau))",
    source="equation (6)",
    meaning="gate α (eq. 6); NaN for methods without a gate",
    extremes=True,
    page="Gate",
    summary=True,
    explained=False,
    of=_alpha,
)
ACTIVE = Signal(
    column="active_conflict",
    title="Active conflict",
    line="How far the geometries of the updates being merged differ, on average over pairs. 0 = same, 1 = unrelated.",
    formula=r"A_t=\operatorname{mean}_{i<j}\gamma_{ij},\quad " + _GAMMA,
    source="Sec. 3 and equation (4); each pair in its own basis",
    meaning="A_t: mean γ over pairs of active updates, pair bases",
    summary=True,
    of=lambda step: step.state.active_conflict,
)
STATE = Signal(
    column="state_conflict",
    title="State conflict",
    line="How far the state after this step differs in geometry from each update in it. Higher = more conflict.",
    formula=r"M_t=\operatorname{mean}_{i}\gamma(S_t,\Delta_i),\quad S_t=\theta_t-\theta_{\mathrm{pre}}",
    source="Sec. 3",
    meaning="M_t: mean γ between the state S_t and each active update",
    summary=True,
    needs=("state",),
    of=lambda step: step.state.state_conflict,
)
STATE_GAP = Signal(
    column="state_gap",
    title="State gap",
    line="State conflict minus active conflict. Above zero: the state conflicts with the updates more than they do "
    "with one another.",
    formula=r"M_t-A_t",
    source="Sec. 3",
    meaning="M_t − A_t",
    least=-1.0,
    diverging=True,
    needs=("state",),
    of=lambda step: step.state.state_gap,
)
GLOBAL = Signal(
    column="global_active",
    title="Global conflict",
    line="Active conflict measured in one basis spanned by all active updates. Higher = more conflict.",
    formula=r"G_t=\operatorname{mean}_{i<j}\gamma_{ij}\ \text{in}\ Q=\operatorname{orth}[V_1\dots V_m]",
    source="Sec. 3 and appendix E",
    meaning="G_t: mean pairwise γ of active updates in one common basis",
    explained=False,
    of=lambda step: step.state.global_active,
)
GLOBAL_WITH_STATE = Signal(
    column="global_with_state",
    title="Global conflict with state",
    line="Global conflict with the model's state counted as one more update. Higher = more conflict.",
    formula=r"G_t^{+}=\operatorname{mean}_{i<j}\gamma_{ij}\ \text{over}\ \{\Delta_i\}\cup\{S_t\}",
    source="Sec. 3 and appendix E",
    meaning="G⁺_t: the same with the state added",
    explained=False,
    needs=("state",),
    of=lambda step: step.state.global_with_state,
)
GLOBAL_GAP = Signal(
    column="global_gap",
    title="Global gap",
    line="What the state adds to the global conflict. Above zero: the state makes the set less compatible.",
    formula=r"G_t^{+}-G_t",
    source="Sec. 3 and appendix E",
    meaning="G⁺_t − G_t",
    least=-1.0,
    diverging=True,
    summary=True,
    needs=("state",),
    of=lambda step: step.state.global_gap,
)
INCOMING = Signal(
    column="incoming_conflict",
    title="Incoming conflict",
    line="Geometry conflict between the state before the step and the arriving update, known before merging. "
    "Higher = more conflict.",
    formula=r"\gamma(S_{t-1},\Delta_t)",
    source="Sec. 3",
    meaning="γ between S_{t−1} and the arriving update, known before the step",
    summary=True,
    needs=("state",),
    of=lambda step: step.incoming,
)
SAR = Signal(
    column="sar",
    title="Subspace overlap (SAR)",
    line="Share of one update's norm that lies in another's leading subspace, on average. Higher = more overlap.",
    formula=r"\mathrm{SAR}_{i\to j}=\frac{\lVert\Delta_iV_j\rVert_F}{\lVert\Delta_i\rVert_F+\varepsilon}",
    source="Sec. 3 and appendix E",
    meaning="mean symmetric subspace activation ratio over active pairs",
    of=lambda step: mean_pair(symmetric_sar(step.sar)),
)
OVERCOUNT = Signal(
    column="overcount",
    title="Over-count",
    line="How far from once the merge counts what the active updates write in its leading directions, mean by energy. "
    "1 = once, higher = more or less often.",
    formula=r"1+\langle|s_r^i-1|\rangle,\quad s_r^i=\langle u_r^\top\Delta_{\mathrm{merge}},u_r^\top\Delta_i\rangle"
    r"/\lVert u_r^\top\Delta_i\rVert^2",
    source="SVC, arXiv 2602.05536",
    meaning="over-count of the active updates by Δ_merge in its leading left directions",
    least=1.0,
    most=None,
    needs=("state",),
    of=_overcount,
)
LEADING_COUNT = Signal(
    column="leading_count",
    title="Counts of the leading direction",
    line="How many times the merge counts what the active updates write in its leading direction. 1 = once, as many as "
    "there are updates = each adds the same, below 0 = reversed.",
    formula=r"\textstyle\sum_i\langle a_1,a_1^i\rangle/\sum_i\lVert a_1^i\rVert^2,\quad "
    r"a_1=u_1^\top\Delta_{\mathrm{merge}},\ a_1^i=u_1^\top\Delta_i",
    source="SVC, arXiv 2602.05536; mean of s by energy",
    meaning="s of the leading left direction of Δ_merge, mean over active updates by energy",
    least=None,
    most=None,
    diverging=True,
    needs=("state",),
    of=_leading_count,
)
UPDATE_NORM = Signal(
    column="update_norm",
    title="Update norm",
    line="Frobenius norm of the arriving update, in units of the weights. Higher = a larger change.",
    formula=r"\lVert\Delta_t\rVert_F",
    source="Sec. 3",
    meaning="norm of the arriving update",
    most=None,
    of=_update_norm,
)
MERGED_NORM = Signal(
    column="merged_norm",
    title="Merged norm",
    line="Frobenius norm of the merged update, before η.",
    formula=r"\lVert\Delta_{\mathrm{merge},t}\rVert_F",
    source="Sec. 4.3",
    meaning="norm of Δ_merge,t",
    most=None,
    page="",
    of=lambda step: norm(step.merged),
)
INCREMENT_NORM = Signal(
    column="increment_norm",
    title="Increment norm",
    line="Frobenius norm of what this step changes in the model.",
    formula=r"\lVert S_t-S_{t-1}\rVert_F",
    source="Sec. 4.3",
    meaning="norm of S_t − S_{t−1}",
    most=None,
    page="",
    explained=False,
    of=lambda step: norm(difference(step.after, step.before)),
)
STATE_NORM = Signal(
    column="state_norm",
    title="State norm",
    line="Frobenius norm of what the model has changed since the base.",
    formula=r"\lVert S_t\rVert_F",
    source="Sec. 3",
    meaning="norm of S_t",
    most=None,
    page="",
    summary=True,
    explained=False,
    needs=("state",),
    of=lambda step: norm(step.after),
)
DISPLACEMENT = Signal(
    column="displacement",
    title="Distance of the branches",
    line="How far the geometry branch lies from the plain one, in the merge metric. Higher = the gate matters more.",
    formula=r"D=\lVert\Delta_{\mathrm{geo}}-\Delta_{\mathrm{plain}}\rVert_{\mathcal B}",
    source="Proposition 1",
    meaning="D = ‖Δ_geo − Δ_plain‖ in the metric 𝓑 without the ridge (Prop. 1)",
    most=None,
    page="Gate",
    summary=True,
    explained=False,
    of=_displacement,
)
CENTER_MISMATCH = Signal(
    column="center_mismatch",
    title="Center mismatch",
    line="Mean squared Bures distance of the updates' covariances from their barycenter. 0 = all alike.",
    formula=r"r=\textstyle\sum_i\omega_i\,d_{\mathrm{BW}}^2(B_i,\bar B)",
    source="Lemma 1",
    meaning="r = Σ ω_i d²(B_i, B̄) (Lemma 1)",
    most=None,
    page="",
    explained=False,
    of=lambda step: step.geometry.center_mismatch,
)
PLAIN_SHIFT = Signal(
    column="plain_shift",
    title="Plain branch: distance from the starting point",
    line="Relative distance of the plain branch from the plain sum of updates. Near 0 = the solver hardly moved.",
    formula=_SHIFT,
    source="appendix B",
    meaning="‖plain branch − Σ Δ_i‖ / ‖Σ Δ_i‖: how far the solver moved",
    most=None,
    page="Solver",
    explained=False,
    of=_shift("plain"),
)
GEO_SHIFT = Signal(
    column="geo_shift",
    title="Geometry branch: distance from the starting point",
    line="The same for the geometry branch, brought back from whitened coordinates. Near 0 = the solver hardly moved.",
    formula=_SHIFT,
    source="appendix B",
    meaning="the same for the geometry branch",
    most=None,
    page="Solver",
    explained=False,
    of=_shift("geo"),
)
LAMBDA_SHARE = Signal(
    column="lambda_share",
    title="Share of λ",
    line="Share of the projected covariances' trace that the shrinkage λ supplies. Over 0.05, λ shapes the signal.",
    formula=r"\lambda\,\dim Q/\operatorname{tr}B_i",
    source="equation (3)",
    meaning="largest share of any tr B_i that λ supplies",
    page="",
    explained=False,
    of=_lambda_share,
)
UNION_RANK = Signal(
    column="union_rank",
    title="Union rank",
    line="Number of directions that the active updates' leading subspaces span together.",
    formula=r"\dim Q",
    source="Alg. 1",
    meaning="dimension of the union basis Q",
    most=None,
    page="",
    explained=False,
    of=lambda step: step.geometry.union_rank,
)
GRADIENT_MEAN = Signal(
    column="gradient_mean",
    title="Gradient cosine, mean",
    line="Mean cosine of the probe tasks' loss gradients at this matrix. Lower = more conflict.",
    least=-1.0,
    diverging=True,
    page="",
    needs=("probes", "gradients"),
)
GRADIENT_MIN = Signal(
    column="gradient_min",
    title="Gradient cosine, lowest",
    line="Lowest cosine of any two tasks' gradients at this matrix. Lower = more conflict.",
    least=-1.0,
    diverging=True,
    page="",
    needs=("probes", "gradients"),
)
GRADIENT_NEGATIVE = Signal(
    column="gradient_negative",
    title="Gradient conflict, negative share",
    line="Share of task pairs whose gradients point against each other at this matrix. Higher = more conflict.",
    page="",
    needs=("probes", "gradients"),
)

SIGNALS: dict[str, Signal] = {
    signal.column: signal for signal in list(globals().values()) if isinstance(signal, Signal)
}
"""By column: those of this file in order, then those of plug-ins."""


def register(signal: Signal) -> None:
    """Raises :class:`InputError` for a column that another signal has."""
    if SIGNALS.setdefault(signal.column, signal) is not signal:
        raise InputError(f"signal {signal.column!r} is there already: {SIGNALS[signal.column].title}")


def computed() -> list[Signal]:
    """Signals that every run computes, the columns of ``matrices``."""
    return [signal for signal in SIGNALS.values() if signal.of is not None]


def on_page(page: str) -> list[Signal]:
    """Signals whose heatmap this page shows."""
    return [signal for signal in SIGNALS.values() if signal.page == page]


def summarised() -> list[Signal]:
    """Signals of tables with one row per step or run."""
    return [signal for signal in computed() if signal.summary and signal.averaged]


def values_of(step: Step) -> dict[str, float]:
    """The value of every computed signal at one step, by column."""
    return {signal.column: signal.of(step) for signal in SIGNALS.values() if signal.of is not None}
