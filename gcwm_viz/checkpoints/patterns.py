"""How long a regular expression from a file may take: one of many choices could backtrack almost without end."""

import math
import re

# In a pattern without escapes and classes: repetitions and options, and the marks of groups and alternatives.
_CHOICE = re.compile(r"\{\d*,\d*\}|[*+?|()]")
_ESCAPED = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
MOST_WORK = 4_000_000
"""Steps of a search for one pattern on one name."""


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
