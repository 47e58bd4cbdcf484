"""Integrate, integrate gated, or leave out: thresholds, the rule, and the evidence as sentences.

An update is judged at its own step: by what its own task gained there and what the earlier tasks lost there, not by
later losses. The effect on the others is taken from leave-one-out where it was measured, else from the update's step;
conflict decides about leaving out only where neither is known. A verdict follows the point values; where the interval
of a value that decides covers its threshold, the evidence is inconclusive.
"""

import math
from dataclasses import dataclass, fields
from typing import Literal

from gcwm_viz.decide.evidence import Candidate
from gcwm_viz.errors import InputError
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.statistics.interval import Interval, Place

Choice = Literal["integrate", "integrate gated", "leave out"]
Certainty = Literal["clear", "inconclusive", "predicted"]


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Thresholds of a verdict. Raises :class:`InputError` for a value out of range.

    gate_conflict: conflict above which the update should pass the gate; the paper's τ, 0.12. hold_conflict: conflict
    above which it is left out where nothing was measured; half way from τ to 1, a choice without a measurement behind
    it. λ sets the range of conflicts, so both hold for one λ: see :meth:`of`.
    In the metric's unit (share of exact matches, or nats per token): min_gain: least gain on its own task. max_harm:
    largest mean loss of the other tasks, whatever its own gain; by leave-one-out, else of the earlier tasks at its
    step. better_without: largest gain of all tasks together, its own included, without it.
    """

    gate_conflict: float = 0.12
    hold_conflict: float = 0.56
    min_gain: float = 0.05
    max_harm: float = 0.1
    better_without: float = 0.0

    @classmethod
    def of(cls, config: GCWMConfig) -> "Thresholds":
        """Defaults for a run: τ of its gate, and half way from τ to 1."""
        tau = min(max(config.tau, 0.0), 1.0)
        return cls(gate_conflict=tau, hold_conflict=round((1 + tau) / 2, 3))

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise InputError(f"threshold {entry.name} must be a finite number of at least 0, got {value!r}")
        if self.hold_conflict < self.gate_conflict:
            raise InputError(
                f"threshold hold_conflict must be at least gate_conflict ({self.gate_conflict}), "
                f"got {self.hold_conflict}"
            )


@dataclass(frozen=True)
class Finding:
    """One comparison. place: position of the interval against the threshold; decides: whether the verdict uses it."""

    name: str
    interval: Interval
    threshold: float
    place: Place
    decides: bool
    words: str


@dataclass(frozen=True)
class Verdict:
    """certainty: ``clear``; ``inconclusive``, an interval that decides covers its threshold or nothing is known;
    ``predicted``, leave-one-out was not measured and the rest supports the verdict. left_out: whether it was measured.
    """

    choice: Choice
    certainty: Certainty
    findings: tuple[Finding, ...]
    words: str
    left_out: bool


_SUBJECTS = {
    "net": "the change of all tasks",
    "harm": "the change of the other tasks",
    "drop": "what the earlier tasks lost at its step",
    "gain": "its own gain",
    "gate": "its conflict",
    "hold": "its conflict",
}

_ROLES = {"gate": " of the gate", "hold": " for leaving out"}


def judge(candidate: Candidate, thresholds: Thresholds | None = None) -> Verdict:
    """Verdict on one candidate.

    Leave out when all tasks together do better without it, when the others lose more than ``max_harm`` to it (the
    earlier tasks at its step where leaving it out was not measured), when its own task gains less than ``min_gain``,
    or, where no effect on the others is known, when its conflict is over ``hold_conflict``. Else integrate: gated when
    the conflict is over ``gate_conflict``.
    """
    limits = thresholds or Thresholds()
    conflict, met = _conflict(candidate)
    left_out = candidate.overall.known or candidate.others.known
    net = _finding("net", candidate.overall, limits.better_without, "all tasks, were it left out", "score")
    harm = _finding("harm", candidate.others, limits.max_harm, "the other tasks, were it left out", "score")
    drop = _finding(
        "drop", candidate.drop, limits.max_harm, "the earlier tasks at its step", "loss", decides=not left_out
    )
    gained, where = (candidate.gain, "at its step") if candidate.gain.known else (candidate.alone, "by its own expert")
    gain = _finding("gain", gained, limits.min_gain, f"its own task {where}", "score")
    unseen = not left_out and not drop.decides
    hold = _finding("hold", conflict, limits.hold_conflict, met, "conflict", decides=unseen)
    gate = _finding("gate", conflict, limits.gate_conflict, met, "conflict")
    against = [
        finding
        for finding, bad in ((net, "above"), (harm, "above"), (drop, "above"), (gain, "below"), (hold, "above"))
        if finding.decides and _side(finding) == bad
    ]
    if against:
        choice: Choice = "leave out"
        unsure = all(finding.place == "covers" for finding in against)
    elif not any(finding.decides for finding in (net, gain, gate)):
        choice, unsure = "leave out", True
    else:
        choice = "integrate gated" if gate.decides and _side(gate) == "above" else "integrate"
        unsure = any(finding.decides and finding.place == "covers" for finding in (net, harm, drop, gain, hold, gate))
    seen = left_out or (choice == "leave out" and (gain in against or drop in against))
    certainty: Certainty = "inconclusive" if unsure else "clear" if seen else "predicted"
    findings = (net, harm, drop, gain, gate, hold)
    words = _words(choice, certainty, against, findings, left_out)
    return Verdict(choice, certainty, findings, words, left_out)


def _conflict(candidate: Candidate) -> tuple[Interval, str]:
    """Conflict with the state before its step; for the first update, which has none, with the other updates."""
    if candidate.incoming.known:
        return candidate.incoming, "with the state before its step"
    return candidate.pairwise, "with the other updates"


def _side(finding: Finding) -> str:
    return "above" if finding.interval.value > finding.threshold else "below"


def _finding(name: str, interval: Interval, threshold: float, of: str, kind: str, *, decides: bool = True) -> Finding:
    place = interval.against(threshold)
    decides = decides and interval.known
    subject = {"conflict": "Conflict", "score": "Change of", "loss": "Loss of"}[kind] + f" {of}"
    if not interval.known:
        return Finding(name, interval, threshold, place, decides, f"{subject}: {interval.reason}.")
    signed = kind != "conflict"
    spread = (
        f" (95 % interval {_number(interval.low, signed)} to {_number(interval.high, signed)})"
        if not math.isnan(interval.low)
        else f" ({interval.reason})"
    )
    relation = {
        "above": "above the threshold",
        "below": "below the threshold",
        "covers": "not distinguishable from the threshold",
    }[place]
    value = _number(interval.value, signed)
    limit = f"{threshold:+.3g}" if signed and threshold else f"{threshold:.3g}"
    words = f"{subject}: {value}{spread}, {relation} {limit}{_ROLES.get(name, '')}."
    return Finding(name, interval, threshold, place, decides, words)


def _words(
    choice: Choice, certainty: Certainty, against: list[Finding], findings: tuple[Finding, ...], left_out: bool
) -> str:
    """The verdict, its reasons and its certainty."""
    because = {
        "net": "all tasks together do better without it",
        "harm": "the other tasks lose too much to it",
        "drop": "the earlier tasks lose too much at its step",
        "gain": "its own task gains too little",
        "hold": "its conflict is high and its effect on the others was not measured",
    }
    if against:
        why = " and ".join(because[finding.name] for finding in against)
    elif not any(finding.decides for finding in findings):
        why = "nothing is known about it"
    else:
        net = findings[0]
        harmless = "" if not net.decides else "all tasks together do better with it"
        if net.decides and not net.interval.value < 0:
            harmless = "all tasks together do not do better without it by more than the threshold"
        gate = {"integrate": "its conflict is low", "integrate gated": "its conflict is over the gate's threshold"}
        conflict = next(finding for finding in findings if finding.name == "gate").decides
        why = " and ".join(filter(None, [harmless, gate[choice] if conflict else "no conflict is defined for it"]))
    covering = [finding for finding in against or findings if finding.decides and finding.place == "covers"]
    subjects = [_SUBJECTS[finding.name] for finding in covering]
    which = " and ".join(filter(None, [", ".join(subjects[:-1]), *subjects[-1:]]))
    limit = "the threshold" if len(subjects) == 1 else "their thresholds"
    doubt = (
        f"{which} {'is' if len(subjects) == 1 else 'are'} not distinguishable from {limit}"
        if subjects
        else "there is none"
    )
    sure = {
        "clear": "The evidence is clear of the thresholds that decide"
        + ("." if left_out else ", at its step: leave-one-out was not measured."),
        "inconclusive": f"The evidence is inconclusive: {doubt}.",
        "predicted": "This is a prediction: leave-one-out was not measured.",
    }[certainty]
    return f"{choice.capitalize()}: {why}. {sure}"


def _number(value: float, signed: bool) -> str:
    return f"{value:+.3f}" if signed else f"{value:.3f}"
