"""Verdicts, plans and what they rest on, as sentences for the page and the command line."""

from __future__ import annotations

from collections.abc import Sequence

from gcwm_viz.decide.outlook import Outlook
from gcwm_viz.decide.verdict import Verdict
from gcwm_viz.statistics.means import Z95

_RESTS = {
    "updates": "the updates alone",
    "prompts": "the updates and prompts of every task",
    "labels": "the updates, and probes of base and experts",
}
_MARKS = {"integrate": "✓", "less": "◐", "hold": "✕", "redundant": "="}


def label(now: Outlook, k: int) -> str:
    """A verdict in a few words."""
    verdict = now.verdicts[k]
    what = {
        "integrate": "integrate",
        "less": f"integrate {verdict.strength / now.eta:.2g} of it",
        "hold": "hold",
        "redundant": "redundant" if verdict.other is None else f"redundant with {now.knowledge.updates[verdict.other]}",
    }[verdict.choice]
    return f"{_MARKS[verdict.choice]} {what}"


def verdict_words(now: Outlook, k: int) -> str:
    """The verdict on one update, with what it is expected to bring."""
    if now.outside:
        return "no forecast: this run lies outside what the forecast was fitted on"
    verdict = now.verdicts[k]
    return f"{label(now, k):<28} {gain_words(verdict)}, lowers the score whole with probability {verdict.harm:.0%}"


def gain_words(verdict: Verdict) -> str:
    """What all tasks gain by an update, with its interval."""
    return f"all tasks {verdict.gain:+.3f} (95 % {verdict.low:+.3f} to {verdict.high:+.3f})"


def plan_name(now: Outlook, plan: Sequence[float]) -> str:
    """A plan in words: everything, everything but some, or what it takes and how much of it."""
    names, parts = now.knowledge.updates, [strength / now.eta for strength in plan]
    whole = [name for name, part in zip(names, parts, strict=True) if abs(part - 1) < 1e-6]
    less = [f"{part:.2g} of {name}" for name, part in zip(names, parts, strict=True) if part and abs(part - 1) >= 1e-6]
    left = [name for name, part in zip(names, parts, strict=True) if not part]
    if len(left) == len(names):
        return "the base"
    if not less:
        if not left:
            return "everything"
        return f"everything but {' and '.join(left)}" if len(left) <= 2 < len(names) else ", ".join(whole)
    if len(less) == len(names) and len(set(parts)) == 1:
        return f"{parts[0]:.2g} of everything"
    if len(less) == 1 and not left:
        return f"everything, but {less[0]}"
    return ", ".join([*whole, *less])


def plan_words(now: Outlook) -> str:
    """The plan of the highest expectation beside taking everything."""
    if now.outside:
        return "No plan is recommended: measure some with `plan`, or leave one out."
    base = float(now.knowledge.base.mean())
    parts = []
    for plan in dict.fromkeys((now.plan, now.everything)):
        mean, sd = now.expected(plan)
        found = now.found(plan)
        seen = f", measured {base + found.value:.3f}" if found else ", not measured"
        parts.append(f"{plan_name(now, plan)}: {base + mean:.3f} ± {Z95 * sd:.3f} expected{seen}")
    return f"Best plan: {'. Beside it, '.join(parts)}. Mean score over {len(now.knowledge.tasks)} tasks, dev split."


def basis(now: Outlook) -> str:
    """What the forecast rests on."""
    more = sum(sum(s > 0 for s in m.plan) > 1 for m in now.measured)
    corrected = f", corrected by {more} measured plans" if more else ""
    outside = f" Outside its range: {', '.join(now.outside)}." if now.outside else ""
    return f"Forecast for {now.forecast.method} from {_RESTS[now.forecast.needs]}{corrected}.{outside}"
