"""Values that a PEFT config gives module by module: a table from patterns to numbers beside a default.

PEFT's rule: a pattern matches a module name from any dot on to its end; the first match wins. Patterns come from a
file, so the work that one could cause is bounded before it is tried.
"""

import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from gcwm_viz.errors import InputError

# In a pattern without escapes and classes: repetitions and options, and the marks of groups and alternatives.
_CHOICE = re.compile(r"\{\d*,\d*\}|[*+?|()]")
_ESCAPED = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
MOST_WORK, _MOST_WORK_IN_ALL = 4_000_000, 100_000_000
"""Steps of a search for one pattern on one name, and for all patterns of a table on all modules: some ten seconds."""


def by_pattern(module: str, config: dict[str, Any], patterns: str, default: str, file: Path) -> float:
    """The number of ``module``: from the table ``patterns`` of the config, or its ``default``. Raises InputError for a
    table that is none, for a pattern that is no regular expression or a costly one, and for no positive number."""
    table = config.get(patterns) or {}
    if not isinstance(table, dict):
        raise InputError(f"{file}: {patterns} must map patterns to numbers, found {type(table).__name__}")
    value = config.get(default)
    for pattern, own in table.items():
        if _matches(pattern, module, file, patterns):
            value = own
            break
    return _positive(value, module, default, file)


def positive(module: str, config: dict[str, Any], setting: str, file: Path) -> float:
    """A setting that is the same for every module, as :func:`by_pattern`."""
    return _positive(config.get(setting), module, setting, file)


def _positive(value: object, module: str, setting: str, file: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise InputError(f"{file}: {setting} of {module!r} must be a positive number, found {str(value)[:50]!r}")
    return value


def check_patterns(config: dict[str, Any], modules: Collection[str], file: Path) -> None:
    """Every pattern of a table may be tried on every module, so their total work is bounded too."""
    longest = max(map(len, modules), default=0)
    for setting in ("rank_pattern", "alpha_pattern"):
        table = config.get(setting)
        patterns = list(table) if isinstance(table, dict) else []
        costs = [work(pattern[:500], max(100, longest)) for pattern in patterns]
        # A pattern beyond its own limit is refused, by name, where it is used.
        if len(modules) * sum(steps for steps in costs if steps <= MOST_WORK) > _MOST_WORK_IN_ALL:
            raise InputError(f"{file}: {setting} holds {len(patterns)} patterns, expected fewer or simpler ones")


def _matches(pattern: str, module: str, file: Path, setting: str) -> bool:
    # A pattern comes from a file, and one of many choices could backtrack almost without end.
    if len(pattern) > 500 or work(pattern, max(100, len(module))) > MOST_WORK:
        raise InputError(f"{file}: {setting} holds the pattern {pattern[:80]!r}, expected a simpler one")
    try:
        return re.match(rf"(.*\.)?({pattern})$", module) is not None
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(
            f"{file}: {setting} holds the pattern {pattern[:80]!r} that is no regular expression ({error})"
        ) from None


def work(pattern: str, length: int) -> float:
    """A bound on the ways in which a backtracking search can try ``pattern`` on a name of ``length`` letters.

    Independent choices multiply: a repetition has ``length`` ends, an optional part two, a group of k alternatives k.
    A repeated group has no such bound: infinity.
    """
    bare = _ESCAPED.sub("x", pattern).replace("(?", "(")
    ways, alternatives = 1, [1]
    for choice in _CHOICE.finditer(bare):
        sign = choice[0]
        if sign == "(":
            alternatives.append(1)
        elif sign == "|":
            alternatives[-1] += 1
        elif sign == ")":
            if bare[choice.end() : choice.end() + 1] in ("*", "+", "{"):
                return math.inf
            ways *= alternatives.pop() if len(alternatives) > 1 else 1
        else:
            ways *= 2 if sign == "?" else length
    return ways * math.prod(alternatives)
