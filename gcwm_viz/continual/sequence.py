"""Settings of a sequence of updates: which stay active, how strongly each step is integrated."""

from dataclasses import dataclass
from typing import Literal

from gcwm_viz.errors import InputError
from gcwm_viz.settings.declare import Settings, choice, integer, number

Policy = Literal["all_history", "current_anchor"]
Keep = Literal["all", "last"]
Post = Literal["none", "svc", "lines"]
Outside = Literal["keep", "sum", "mean"]
AFTER_MERGE = ("eta", "decay", "outside")
"""Settings that act after the merge: sequences that differ in these alone share their merges."""


@dataclass(frozen=True, kw_only=True)
class ContinualConfig(Settings):
    """Continual update (METHOD section 3): θ_t = θ_{t−1} + η·decay^{t−1} · Δ_inc.

    Raises :class:`InputError` for a setting out of range.
    """

    policy: Policy = choice(
        "all_history",
        "all_history keeps every earlier update active, or as many as memory says; current_anchor merges the previous "
        "merged update with the arriving one",
        Policy,
    )
    memory: int | None = integer(
        None, "size of the active set under all_history, the arriving update counted; none for all", optional=True
    )
    eta: float = number(1.0, "η, the share of the merged increment that a step adds to the state", above=0)
    decay: float = number(1.0, "factor of η from each step to the next", above=0)
    old_weight: float = number(1.0, "task weight ω of earlier updates", least=0)
    new_weight: float = number(1.0, "task weight ω of the arriving update", above=0)
    outside: Outside = choice(
        "keep",
        "tensors that are no target matrix (norms, biases, embeddings, head): keep leaves the base's, sum adds η times "
        "the sum of the active updates' changes, mean takes the mean of their tensors",
        Outside,
    )
    keep: Keep = choice(
        "all", "steps whose tensors stay on disk: all, or the last alone, which takes a constant η", Keep
    )

    post: Post = choice(
        "none",
        "step after the merge of every matrix, which the next merge does not see: svc divides singular values by how "
        "often the merge counts the active updates' part in them, lines scales layers from the first to the last",
        Post,
    )
    svc_alpha: float = number(
        1.0,
        "least count s of an update in a direction under SVC; 1 never enlarges, for the mean of updates 1/m",
        above=0,
    )
    lines_alpha: float = number(0.5, "factor of the first layer under LiNeS", least=0)
    lines_beta: float = number(
        0.5, "what LiNeS adds to it up to the last layer that an update changes, linearly", least=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep == "last" and self.decay != 1.0:
            raise InputError(
                f"setting keep must be all where η decays, because every step enters S_T, got {self.keep!r}"
            )

    @property
    def post_in_words(self) -> str:
        """The step after a merge with its settings; empty where there is none."""
        if self.post == "svc":
            return f"SVC (svc_alpha {self.svc_alpha:g})"
        if self.post == "lines":
            return f"LiNeS (from {self.lines_alpha:g} in the first layer to {self.lines_alpha + self.lines_beta:g})"
        return ""

    def step_eta(self, step: int) -> float:
        """η_t of step 1, 2, …"""
        return self.eta * self.decay ** (step - 1)
