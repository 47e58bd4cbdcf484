"""Predictors of what an update does to the others before it is merged, each declared once.

Their values: :mod:`gcwm_viz.signals.interference` from the updates alone, :mod:`gcwm_viz.decide.measure` from probes.
Their validation: the decision benchmark, :mod:`gcwm_viz.decide.benchmark`.
"""

from dataclasses import dataclass
from typing import Literal

Source = Literal["updates", "prompts", "labels"]
Between = Literal["update", "pair", "task"]


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A number that may foretell harm.

    column: its name in tables. title: on charts and in tables of findings. line: one plain sentence with direction.
    formula: LaTeX, or empty. source: where it is defined. needs: ``updates`` (and the base's weights) alone,
    ``prompts`` without answers, or ``labels``. between: what has one value: an ``update``, an ordered ``pair`` (j acts
    on i), or an update and a probed ``task``.
    """

    column: str
    title: str
    line: str
    formula: str = ""
    source: str = ""
    needs: Source = "updates"
    between: Between = "pair"


INTERFERENCE = Predictor(
    column="interference",
    title="Interference",
    line="Twice a second-order estimate of the loss that update i loses to j, its own covariances in place of its "
    "Fisher information. Higher = more harm.",
    formula=r"I_{j\to i}=\operatorname{tr}(\hat G_i\Delta_j\hat A_i\Delta_j^\top)",
    source="K-FAC (arXiv 1503.05671) with the update's covariances; relative to the norm of Δ_i",
)
ONE_SIDED = Predictor(
    column="one_sided",
    title="Interference, input side",
    line="WUDI's interference: how strongly Δ_j acts on the inputs that Δ_i reads. Higher = more harm.",
    formula=r"\lVert\Delta_j\Delta_i^\top\rVert_F^2/\lVert\Delta_i\rVert_F^2",
    source="arXiv 2503.08099; relative to the norm of Δ_i",
)
ALIGNMENT = Predictor(
    column="alignment",
    title="Signed alignment",
    line="Cosine of the two updates over all matrices. 1 = the same direction, below 0 = opposed.",
    formula=r"\langle\Delta_i,\Delta_j\rangle/(\lVert\Delta_i\rVert\lVert\Delta_j\rVert)",
)
SAR = Predictor(
    column="sar",
    title="Subspace overlap (SAR)",
    line="Share of Δ_j's norm that the leading right subspace of Δ_i reads. Higher = more overlap.",
    formula=r"\mathrm{SAR}_{j\to i}=\lVert\Delta_jV_i\rVert_F/\lVert\Delta_j\rVert_F",
    source="arXiv 2605.09608, Sec. 3",
)
CONFLICT = Predictor(
    column="conflict",
    title="Geometry conflict γ",
    line="Distance of the two updates' covariances. 0 = same, 1 = unrelated.",
    formula=r"\gamma_{ij}",
    source="arXiv 2605.09608, equation 4",
)
OVERCOUNT = Predictor(
    column="overcount",
    title="Over-count s",
    line="How far from once the sum of both counts the directions of Δ_i, mean by energy. 1 = once, higher = more.",
    formula=r"1+\langle|s_r^i-1|\rangle,\ s_r^i=\langle a_r,a_r^i\rangle/\lVert a_r^i\rVert^2,"
    r"\ a_r=u_r^\top(\Delta_i+\Delta_j)",
    source="SVC, arXiv 2602.05536",
)
TRAILING = Predictor(
    column="trailing",
    title="Overlap of trailing subspaces",
    line="Overlap of the right directions that both updates use least. Of full-rank updates only.",
    formula=r"\lVert V_{i,\mathrm{tail}}^\top V_{j,\mathrm{tail}}\rVert_F^2/r",
)
STI = Predictor(
    column="sti",
    title="Singular task interference",
    line="Products of the overlaps of left and right singular vectors, weighted by singular values. Higher = more "
    "interference.",
    formula=r"\lVert(U^\top U-I)\Sigma(V^\top V-I)\rVert_1/\operatorname{tr}\Sigma",
    source="TSV, arXiv 2412.00081; both updates' factors side by side",
)
UPDATE_NORM = Predictor(
    column="relative_norm",
    title="Update norm",
    line="Norm of the update over the norm of the base's target matrices. Higher = a larger change.",
    formula=r"\lVert\Delta_j\rVert_F/\lVert W\rVert_F",
    between="update",
)
INTRUDERS = Predictor(
    column="intruders",
    title="Intruder directions",
    line="Of the ten leading left singular vectors of W + Δ, how many no singular vector of W resembles, mean over "
    "matrices.",
    source="arXiv 2410.21228; |cos| below 0.5",
    between="update",
)
EFFECTIVE_RANK = Predictor(
    column="effective_rank",
    title="Effective rank",
    line="Participation ratio of the update's squared singular values over its largest possible value. Higher = "
    "spread over more directions.",
    formula=r"(\textstyle\sum\sigma^2)^2/\sum\sigma^4/\min(d)",
    between="update",
)
KL = Predictor(
    column="kl",
    title="KL on its own prompts",
    line="Divergence of the base's first answer token from the expert's, on prompts of the update's own task. Higher = "
    "it changes more behaviour.",
    formula=r"\operatorname{KL}(p_{W}\,\Vert\,p_{W+\Delta_j})",
    needs="prompts",
    between="update",
)
KL_OTHERS = Predictor(
    column="kl_others",
    title="KL on the others' prompts",
    line="The same on prompts of the other tasks, mean over tasks. Higher = it changes what is not its own.",
    needs="prompts",
    between="update",
)
BASE_LOSS = Predictor(
    column="base_loss",
    title="Base's loss on its task",
    line="Loss of the base on the task that the update claims, in nats per token. Higher = more to learn.",
    needs="labels",
    between="update",
)
FIRST_ORDER = Predictor(
    column="first_order",
    title="First-order effect at the expert",
    line="Change of task i's loss when Δ_j is added to its expert, by the gradient there, in nats. Above zero = harm.",
    formula=r"\langle\nabla L_i(W+\Delta_i),\Delta_j\rangle",
    needs="labels",
)
FIRST_ORDER_BASE = Predictor(
    column="first_order_base",
    title="First-order effect at the base",
    line="The same by the gradient at the base, for every probed task.",
    formula=r"\langle\nabla L_k(W),\Delta_j\rangle",
    needs="labels",
    between="task",
)
ATTRIBUTED = Predictor(
    column="attributed",
    title="Attributed harm",
    line="Sum over matrices of what the update alone adds to a task's loss, gains left out, in nats.",
    formula=r"\textstyle\sum_k\max(A_k,0)",
    source="attribution along base → base + Δ_j",
    needs="labels",
    between="task",
)
SOLO = Predictor(
    column="solo",
    title="Score of the expert",
    line="Score of the base with this update alone on a task, minus the base's. Below zero = it harms this task.",
    needs="labels",
    between="task",
)

PREDICTORS: dict[str, Predictor] = {
    each.column: each for each in list(globals().values()) if isinstance(each, Predictor)
}
