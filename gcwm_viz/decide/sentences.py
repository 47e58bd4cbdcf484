"""Verdicts, plans and what they rest on, as sentences for the page and the command line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from gcwm_viz.decide.knowledge import STRENGTHS
from gcwm_viz.decide.outlook import Outlook
from gcwm_viz.decide.search import WORTH
from gcwm_viz.decide.verdict import Verdict
from gcwm_viz.statistics.means import Z95

_RESTS = {
    "updates": "the updates alone",
    "prompts": "the updates and prompts of every task",
    "labels": "the updates, and probes of base and experts",
}
_MARKS = {"integrate": "✓", "less": "◐", "hold": "✕", "redundant": "="}
SCALE = "Scores are exact match or accuracy, means over tasks on the development split; ± and brackets are 95 %."
"""What the numbers of :func:`plan_words` and of a verdict are."""


def label(now: Outlook, k: int) -> str:
    """A verdict in a few words."""
    verdict = now.verdicts[k]
    what = {
        "integrate": "integrate",
        "less": f"integrate {part_words(verdict.strength / now.eta)} of it",
        "hold": "hold",
        "redundant": "redundant" if verdict.other is None else f"redundant with {now.knowledge.updates[verdict.other]}",
    }[verdict.choice]
    return f"{_MARKS[verdict.choice]} {what}"


def gain_words(verdict: Verdict, digits: int = 2) -> str:
    """What all tasks gain by an update, with its interval."""
    value, low, high = (fixed(each, digits, signed=True) for each in (verdict.gain, verdict.low, verdict.high))
    return f"{value} [{low}, {high}]"


def harm_words(verdict: Verdict) -> str:
    """Probability that the whole update lowers the score, to the next hundredth and never as certain."""
    if verdict.harm < 0.005:
        return "under 1 %"
    return "over 99 %" if verdict.harm > 0.995 else f"{100 * verdict.harm:.0f} %"


def fixed(value: float, digits: int = 3, *, signed: bool = False) -> str:
    """A score with so many decimals; n/a where it is not known, and no minus before a zero."""
    return "n/a" if math.isnan(value) else f"{round(value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"


def part_words(part: float) -> str:
    """How much of an update is taken."""
    return "⅓" if math.isclose(part, STRENGTHS[0], abs_tol=1e-6) else f"{part:.3g}"


def plan_name(updates: Sequence[str], strengths: Mapping[str, float]) -> str:
    """A plan in words: everything, everything but some, or what it takes and how much of it.

    strengths: of the updates that it takes, on top of the run's own.
    """
    parts = {name: strengths.get(name, 0.0) for name in updates}
    whole = [name for name, part in parts.items() if math.isclose(part, 1.0, abs_tol=1e-6)]
    left = [name for name, part in parts.items() if not part]
    less = {name: part_words(part) for name, part in parts.items() if part and name not in whole}
    some = [f"{part} of {name}" for name, part in less.items()]
    if len(left) == len(parts):
        return "nothing, which is the base"
    if len(parts) > 1 and len(less) == len(parts) and len(set(less.values())) == 1:
        return f"{next(iter(less.values()))} of everything"
    if len(parts) == 1 or len(left) > 2 or 2 * len(whole) <= len(parts):
        return _listed([*whole, *some])
    if not left:
        return f"everything, but {_listed(some)}" if some else "everything"
    return f"everything but {_listed(left)}" + (f", with {_listed(some)}" if some else "")


def plan_words(now: Outlook) -> str:
    """The recommended plan beside taking everything: expected and measured."""
    plan = now.recommended
    if now.outside and not now.found(plan):
        return "No plan is recommended: nobody has measured one, and a forecast shows no number here."
    parts = []
    for each in dict.fromkeys((plan, now.everything)):
        if each == plan and not any(plan):
            parts.append("hold everything: no plan is expected to score higher than the base")
            continue
        name = plan_name(now.knowledge.updates, now.strengths(each))
        parts.append(f"{name} ({_said(now, each)})")
    first = "Best measured plan" if now.outside and now.found(plan) else "Recommended"
    second = f" For comparison, {parts[1]}." if len(parts) > 1 else ""
    return f"{first}: {parts[0]}.{second}"


def level_words(base: float, change: float) -> str:
    """A mean score, from its change from the base; that change where nobody measured the base."""
    return fixed(change, signed=True) if math.isnan(base) else fixed(base + change)


def _said(now: Outlook, plan: tuple[float, ...]) -> str:
    found, words = now.found(plan), []
    if not now.outside:
        mean, sd = now.expected(plan)
        base = " from the base" if math.isnan(now.base) else ""
        words.append(f"expected {level_words(now.base, mean)} ± {fixed(Z95 * sd)}{base}")
    words.append(
        f"measured {level_words(now.base, found.value)} ± {fixed(Z95 * found.error)}" if found else "not measured"
    )
    return ", ".join(words)


def next_words(now: Outlook, found: tuple[int, float] | None) -> str:
    """What is worth measuring next. found: of :func:`~gcwm_viz.decide.plans.worth`."""
    if found is None:
        return f"No further plan is worth measuring: none is expected to be better by more than {WORTH:g}."
    place, gain = found
    name = plan_name(now.knowledge.updates, now.strengths(tuple(now.belief.plans_pt[place])))
    more = "" if now.outside else f" Expected improvement over the best that was measured: {fixed(gain)}."
    return f"Worth measuring next: {name}.{more}"


def basis(now: Outlook) -> str:
    """What the forecast rests on."""
    known, merges = now.knowledge, sum(sum(s > 0 for s in m.plan) > 1 for m in now.measured)
    corrected = f", corrected by {_count(merges, 'measured plan')}" if merges else ""
    tasks = _count(len(known.tasks), "task")
    most, what = ("labels", "answers") if known.has_labels else ("prompts", "prompts")
    unused = known.has_prompts and now.forecast.needs != most
    left = f" The one that uses {what} was fitted on no case like this run." if unused else ""
    return f"Forecast for {now.forecast.method} on {tasks} from {_RESTS[now.forecast.needs]}{corrected}.{left}"


def outside_words(now: Outlook) -> str:
    """Why the forecast shows no numbers of a run."""
    return (
        f"This run lies outside what the forecast was fitted on, in {_listed([f'“{name}”' for name in now.outside])}. "
        "So it shows no forecast, only signals and what was measured."
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
