"""Parts of the page that helps to choose which updates to integrate."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from weakref import WeakKeyDictionary

import pandas as pd
import streamlit as st

from gcwm_viz.decide.evidence import Candidate, by_place, candidates, latest_pairs, pair_square
from gcwm_viz.decide.interval import Interval
from gcwm_viz.decide.order import Outcome, additions, greedy_order, measured, order_matters, outcomes
from gcwm_viz.decide.plan import plan_of
from gcwm_viz.decide.verdict import Thresholds, Verdict, judge
from gcwm_viz.errors import InputError
from gcwm_viz.figures.signals import INCOMING, Signal
from gcwm_viz.figures.theme import num
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.tables import Run
from gcwm_viz.ui import grids
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.scoring import UNITS
from gcwm_viz.ui.text import as_markdown

SPLITS = {"dev": "development", "test": "test"}
PAIRWISE = Signal(
    column="pair_conflict",
    title="Conflict with the other updates",
    line="Mean geometry conflict of this update with every other one. Higher = more conflict.",
    formula=r"\operatorname{mean}_{j\ne k}\gamma_{kj}",
    source="equation (4)",
)
EXPECTED = Signal(
    column="pair_alpha",
    title="Expected gate α",
    line="The gate's answer to that conflict: 0 = the plain branch would do, 1 = geometry branch only.",
    formula=r"\alpha(\operatorname{mean}_{j\ne k}\gamma_{kj})",
    source="equation (6)",
)
MARKS = {"integrate": "✓ integrate", "integrate gated": "✓ integrate gated", "hold": "✕ hold"}
CERTAINTY = {"clear": "measured, clear", "inconclusive": "inconclusive", "predicted": "predicted only"}
ORDERS = ("as in this run", "least conflict first")


@dataclass(frozen=True)
class Evidence:
    """What does not change with a threshold. ``outcomes``: sets of updates with a measured score."""

    candidates: list[Candidate]
    pairs: pd.DataFrame
    square: pd.DataFrame
    outcomes: list[Outcome]

    @classmethod
    def of(cls, run: Run, split: str, metric: str) -> Evidence:
        found = candidates(run.tables, run.store.settings, split, metric)
        pairs = latest_pairs(run.tables["pairs"])
        square = pair_square(pairs, [candidate.update for candidate in found])
        return cls(found, pairs, square, outcomes(run.tables, run.updates, split, metric))


_kept: WeakKeyDictionary[Run, dict[tuple[str, str], Evidence]] = WeakKeyDictionary()
"""Evidence of the loaded runs by split and metric: moving a slider must not gather it again."""


@dataclass(frozen=True)
class Decision:
    """Everything that the page's parts share."""

    run: Run
    split: str
    metric: str
    evidence: Evidence
    verdicts: dict[str, Verdict]
    order_matters: str

    @property
    def candidates(self) -> list[Candidate]:
        return self.evidence.candidates

    @property
    def square(self) -> pd.DataFrame:
        return self.evidence.square

    @property
    def unit(self) -> str:
        return UNITS[self.metric]

    def path(self, order: list[str]) -> pd.DataFrame:
        """Predicted conflict and measured score along ``order``."""
        rows = []
        for addition in additions(self.square, order):
            known = measured(self.evidence.outcomes, order[: addition.size], ordered=bool(self.order_matters))
            score = {"value": known.value, "se": known.se, "source": known.source} if known else {}
            rows.append(asdict(addition) | {"value": math.nan, "se": math.nan, "source": ""} | score)
        return pd.DataFrame(rows)

    @property
    def greedy(self) -> list[str]:
        return [addition.update for addition in greedy_order(self.square)]


def decide(run: Run) -> Decision:
    """Controls for probes and thresholds, and what they give."""
    scores, settings = run.tables["scores"], run.store.settings
    splits = [name for name in SPLITS if name in set(scores["split"])] or ["dev"]
    metrics = [name for name in UNITS if name in set(scores["metric"])] or ["em"]
    left, right, _ = st.columns([1, 1, 2])
    split = left.segmented_control(
        "Decide on", splits, default=splits[0], required=True, format_func=SPLITS.__getitem__, key="decide-split"
    )
    metric = right.segmented_control(
        "Metric", metrics, default=metrics[0], required=True, format_func=UNITS.__getitem__, key="decide-metric"
    )
    limits = thresholds(settings.gcwm, metric)
    kept = _kept.setdefault(run, {})
    if (split, metric) not in kept:
        kept[split, metric] = Evidence.of(run, split, metric)
    found = kept[split, metric]
    return Decision(
        run=run,
        split=split,
        metric=metric,
        evidence=found,
        verdicts={candidate.update: judge(candidate, limits) for candidate in found.candidates},
        order_matters=order_matters(settings),
    )


def thresholds(config: GCWMConfig, metric: str) -> Thresholds:
    """Sliders for the thresholds, starting from those of the run's gate."""
    usual = asdict(Thresholds.of(config))
    labels = {
        "gate_conflict": ("Gate above conflict", 1.0),
        "hold_conflict": ("Hold above conflict", 1.0),
        "better_without": ("All tasks, better without", 0.5),
        "max_harm": ("Others, better without", 0.5),
        "min_gain": ("Least own gain", 0.5),
    }
    with st.expander("Thresholds of the verdict"):
        st.caption(
            "Held when all tasks together, or the other tasks alone, do better without the update by more than these, "
            "or when its own task gains less. Conflict decides about holding only where leaving it out was not "
            f"measured. Conflicts in [0, 1]; scores in {UNITS[metric]}."
        )
        values = {
            name: box.slider(
                label,
                0.0,
                max(top, usual[name]),
                usual[name],
                step=0.005,
                format="%.3f",
                key=f"limit-{name}-{usual[name]}",
            )
            for box, (name, (label, top)) in zip(st.columns(len(labels)), labels.items(), strict=True)
        }
        if values["hold_conflict"] < values["gate_conflict"]:
            st.caption("The conflict to hold is below that of the gate; the gate's is used for both.")
            values["hold_conflict"] = values["gate_conflict"]
    return Thresholds(**values)


def table(decision: Decision) -> None:
    """One row a candidate."""
    rows = []
    for candidate in decision.candidates:
        verdict = decision.verdicts[candidate.update]
        rows.append(
            {
                "step": candidate.step,
                "update": candidate.update,
                "verdict": MARKS[verdict.choice],
                "evidence": CERTAINTY[verdict.certainty],
                "incoming": _spread(candidate.incoming),
                "pairwise": _spread(candidate.pairwise),
                "alpha": _spread(candidate.alpha),
                "gain": _spread(candidate.gain, signed=True),
                "expert": _spread(candidate.gain_to_expert, signed=True),
                "others": _spread(candidate.others, signed=True),
                "overall": _spread(candidate.overall, signed=True),
            }
        )
    text = st.column_config.TextColumn
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={
            "step": st.column_config.NumberColumn("Step", width="small"),
            "update": text("Update"),
            "verdict": text("Verdict"),
            "evidence": text("Evidence"),
            "incoming": text("Incoming conflict", help="With the state it met; 0 same, 1 unrelated"),
            "pairwise": text("Conflict with others", help="Mean over every other update; 0 same, 1 unrelated"),
            "alpha": text("Expected α", help="The gate's answer to that conflict, 0 to 1"),
            "gain": text("Own task over base", help=f"{decision.unit}, more = better"),
            "expert": text("… over its expert", help="How much of what the expert can is lost"),
            "others": text("Others without it", help="Above zero: the other tasks do better without it"),
            "overall": text("All without it", help="Above zero: all tasks together do better without it"),
        },
    )
    missing = dict.fromkeys(
        entry["reason"]
        for candidate in decision.candidates
        for entry in asdict(candidate).values()
        if isinstance(entry, dict) and entry["reason"]
    )
    note = f" n/a: {'; '.join(missing)}." if missing else ""
    st.caption(
        "In brackets: 95 % intervals, for conflicts from layer to layer, for scores from example to example. Signs are "
        f"turned so that more is better.{as_markdown(note, 600)}"
    )


def explain(view: View, decision: Decision) -> None:
    """Why the candidate of the chosen step got its verdict, and where its conflict lies."""
    verdict = decision.verdicts[view.update]
    st.subheader(f"Why: {as_markdown(view.update, 60)}", anchor=False)
    st.caption("The update of the chosen step; the step slider in the side bar chooses another.")
    box = st.warning if verdict.choice == "hold" else st.info if verdict.certainty != "clear" else st.success
    box(verdict.words)
    for finding in verdict.findings:
        st.markdown(f"- {as_markdown(finding.words, 400)}" + ("" if finding.decides else " *Not decisive.*"))
    cells = by_place(view.run.tables["matrices"], decision.evidence.pairs, view.run.store.settings, view.update)
    cells.insert(0, "step", view.step)
    grids.show_grids(view, cells, (INCOMING, PAIRWISE, EXPECTED))


def left_out_square(decision: Decision, column: str) -> pd.DataFrame:
    """(update left out, task) table of leave-one-out in the order of arrival; changes with more = better without."""
    rows = decision.run.tables["leave_one_out"]
    rows = rows[(rows["split"] == decision.split) & (rows["metric"] == decision.metric)]
    square = rows.pivot(index="left_out", columns="task", values=column).astype(float)
    sign = -1.0 if decision.metric == "nll" and column == "difference" else 1.0
    updates = [name for name in decision.run.updates if name in square.index]
    tasks = [name for name in decision.run.updates if name in square.columns]
    return sign * square.reindex(index=updates, columns=[*tasks, *(t for t in square.columns if t not in tasks)])


def orders(decision: Decision) -> dict[str, list[str]]:
    """The orders that the curve compares, by name."""
    return {ORDERS[1]: decision.greedy, ORDERS[0]: [candidate.update for candidate in decision.candidates]}


def order_note(decision: Decision) -> str:
    if decision.order_matters:
        return f"In this run the final model depends on the order: {decision.order_matters}."
    return (
        "In this run every step keeps all updates and η is constant, so the final model does not depend on the order, "
        "only the path there does: the curve compares sets of updates."
    )


def choose_plan(decision: Decision) -> list[str]:
    """Tick boxes for the updates, and their order; what the set predicts, and what was measured for it."""
    boxes = st.columns(min(6, len(decision.candidates)))
    ticked = []
    for index, candidate in enumerate(decision.candidates):
        take = decision.verdicts[candidate.update].choice != "hold"
        key = f"take-{decision.run.path.name}-{index}-{take}"  # a verdict that turns sets its box anew
        if boxes[index % len(boxes)].checkbox(as_markdown(candidate.update, 40), value=take, key=key):
            ticked.append(candidate.update)
    by = st.segmented_control("Order of arrival", ORDERS, default=ORDERS[0], required=True, key="plan-order")
    ranks = decision.run.updates if by == ORDERS[0] else decision.greedy
    chosen = sorted(ticked, key=ranks.index)
    if len(chosen) > 1:
        predicted = decision.path(chosen)["subset_conflict"].iloc[-1]
        st.markdown(f"Mean conflict between the {len(chosen)} updates: {num(predicted)}, higher = more conflict.")
    known = measured(decision.evidence.outcomes, chosen, ordered=bool(decision.order_matters))
    st.markdown(
        f"Measured for exactly these updates ({known.source}): {num(known.value)} ± {num(1.96 * known.se)} "
        f"{decision.unit}, mean over all tasks."
        if known
        else "Nobody measured exactly this set: run the plan to know."
    )
    return chosen


def plan_text(decision: Decision, chosen: list[str]) -> str | None:
    """The plan as YAML, or None with a sentence on the page."""
    try:
        return plan_of(decision.run.store, chosen).to_yaml()
    except InputError as error:
        st.text(str(error))
        return None


def _spread(found: Interval, *, signed: bool = False) -> str:
    if not found.known:
        return "n/a"
    plus = "+" if signed else ""
    bounds = "" if math.isnan(found.low) else f" [{found.low:{plus}.2f}, {found.high:{plus}.2f}]"
    return f"{found.value:{plus}.3f}{bounds}"
