"""What the parts of the page Decide share: chosen probes and thresholds, evidence computed once, verdicts."""

import math
from dataclasses import asdict, dataclass
from weakref import WeakKeyDictionary

import pandas as pd
import streamlit as st

from gcwm_viz.decide.agreement import Agreement, agreement
from gcwm_viz.decide.evidence import Candidate, candidates, latest_pairs, pair_square
from gcwm_viz.decide.order import Outcome, additions, greedy_order, measured, order_matters, outcomes
from gcwm_viz.decide.verdict import Thresholds, Verdict, judge
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.probes.metrics import UNITS, offered
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui.scoring import choose_measure


@dataclass(frozen=True)
class Evidence:
    """What does not change with a threshold. ``outcomes``: sets of updates with a measured score."""

    candidates: list[Candidate]
    pairs: pd.DataFrame
    square: pd.DataFrame
    outcomes: list[Outcome]
    agreement: Agreement

    @classmethod
    def of(cls, run: Run, split: str, metric: str) -> "Evidence":
        updates = candidates(run.tables, run.store.settings, split, metric)
        pairs = latest_pairs(run.tables["pairs"])
        square = pair_square(pairs, [candidate.update for candidate in updates])
        scored = outcomes(run.tables, run.updates, split, metric)
        return cls(updates, pairs, square, scored, agreement(updates))


_evidence: WeakKeyDictionary[Run, dict[tuple[str, str], Evidence]] = WeakKeyDictionary()
"""Evidence of the loaded runs by split and metric: moving a slider must not compute it again."""


@dataclass(frozen=True)
class Decision:
    """Everything that the parts of the page share."""

    run: Run
    split: str
    metric: str
    evidence: Evidence
    verdicts: dict[str, Verdict]
    order_matters: str

    @property
    def unit(self) -> str:
        return UNITS[self.metric]

    def path(self, order: list[str]) -> pd.DataFrame:
        """Predicted conflict and measured score along ``order``."""
        rows = []
        for addition in additions(self.evidence.square, order):
            outcome = measured(self.evidence.outcomes, order[: addition.size], ordered=bool(self.order_matters))
            score = {"value": outcome.value, "se": outcome.se, "source": outcome.source} if outcome else {}
            rows.append(asdict(addition) | {"value": math.nan, "se": math.nan, "source": ""} | score)
        return pd.DataFrame(rows)

    @property
    def greedy(self) -> list[str]:
        return [addition.update for addition in greedy_order(self.evidence.square)]


def decide(run: Run) -> Decision:
    """Controls for probes and thresholds, and the decision under them."""
    scores = run.tables["scores"]
    settings = run.store.settings
    splits = [name for name in ("dev", "test") if name in set(scores["split"])] or ["dev"]
    split, metric = choose_measure("Decide on", splits, offered(scores), splits[0], key="decide")
    limits = thresholds(settings.gcwm, metric)
    by_measure = _evidence.setdefault(run, {})
    if (split, metric) not in by_measure:
        by_measure[split, metric] = Evidence.of(run, split, metric)
    evidence = by_measure[split, metric]
    return Decision(
        run=run,
        split=split,
        metric=metric,
        evidence=evidence,
        verdicts={candidate.update: judge(candidate, limits) for candidate in evidence.candidates},
        order_matters=order_matters(settings, trained=bool(run.store.file.states)),
    )


def thresholds(config: GCWMConfig, metric: str) -> Thresholds:
    """Sliders for the thresholds, starting from those of the run's gate."""
    defaults = asdict(Thresholds.of(config))
    labels = {
        "gate_conflict": ("Gate above conflict", 1.0),
        "hold_conflict": ("Leave out above conflict", 1.0),
        "better_without": ("All tasks, better without", 0.5),
        "max_harm": ("Others, better without", 0.5),
        "min_gain": ("Least own gain", 0.5),
    }
    with st.expander("Thresholds of the verdict"):
        st.caption(
            "Left out when all tasks together, or the other tasks alone, do better without the update by more than "
            "these, or when its own task gains less at its step. Where leave-one-out was not measured, what the "
            "earlier tasks lost at its step counts instead, and conflict only where that is unknown too. Conflicts in "
            f"[0, 1]; scores in {UNITS[metric]}."
        )
        values = {
            name: box.slider(
                label,
                0.0,
                max(top, defaults[name]),
                defaults[name],
                step=0.005,
                format="%.3f",
                key=f"limit-{name}-{defaults[name]}",
            )
            for box, (name, (label, top)) in zip(st.columns(len(labels)), labels.items(), strict=True)
        }
        if values["hold_conflict"] < values["gate_conflict"]:
            st.caption("The conflict for leaving out is below that of the gate; the gate's is used for both.")
            values["hold_conflict"] = values["gate_conflict"]
    return Thresholds(**values)
