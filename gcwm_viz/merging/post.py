"""Steps after a merge, whatever the method: SVC (arXiv 2602.05536) and LiNeS (arXiv 2410.17146).

Both multiply Δ_merge from the left by a symmetric matrix or a number. The branches of a merge are multiplied alike, so
that mixing them gives the step of the mixture; adapters keep their right factor. What a branch's solver reports, and
the branches' distance, are those of the merge itself.
Shape suffixes: o = d_out, i = d_in, k = singular triplets of the merge, m = number of updates.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from gcwm_viz.linalg.counts import counts
from gcwm_viz.linalg.lowrank import Update, map_columns, scaled
from gcwm_viz.linalg.triplets import double, triplets
from gcwm_viz.merging.merge import Merge


def svc(merge: Merge, updates: Sequence[Update], alpha: float) -> Merge:
    """M' = U diag(γ) Uᵀ M with M = UΣVᵀ and γ_r = m / Σ_i max(α, s_r^i), s of :class:`~gcwm_viz.linalg.counts.Counts`.

    ``updates``: the m active ones, each times its weight. α = 1 only shrinks, and leaves a direction alone that no
    update finds counted more than once; the paper's 1/m belongs to the mean of updates, in which s = 1/m is once.
    """
    merged = double(merge.merged)
    own = triplets(merged)
    if not updates or own.count == 0:
        return merge
    times_mk = counts(own.left_ok, merged, [double(update) for update in updates]).times_mr
    gamma_k = (len(updates) / times_mk.clamp_min(alpha).sum(0)).to(merged.device)

    def shrunk(update: Update) -> Update:
        wide = map_columns(
            double(update), lambda x_oc: x_oc + own.left_ok @ ((gamma_k - 1)[:, None] * (own.left_ok.mT @ x_oc))
        )
        return wide.to(update.device, update.dtype)

    return _mapped(merge, shrunk)


def scaled_by_depth(merge: Merge, layer: int, layers: int, alpha: float, beta: float) -> Merge:
    """M' = (α + β ℓ/(L − 1)) M in layer ℓ = 0 … L − 1; α + β where there is one layer."""
    factor = alpha + beta * (layer / (layers - 1) if layers > 1 else 1.0)
    return _mapped(merge, lambda update: scaled(update, factor))


def _mapped(merge: Merge, of: Callable[[Update], Update]) -> Merge:
    """The merge with every branch's update replaced."""
    branches = {name: replace(branch, update=of(branch.update)) for name, branch in merge.branches.items()}
    return replace(merge, branches=branches)
