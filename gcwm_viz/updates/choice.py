"""Which matrices are targets, where a run does not take those of the decoder blocks: patterns of tensor names."""

import re
from collections.abc import Collection
from dataclasses import dataclass

from gcwm_viz.checkpoints.patterns import MOST_WORK, work
from gcwm_viz.errors import InputError

_LONGEST = 500
_MOST_WORK_IN_ALL = 1_000_000_000
"""Steps of a search for one pattern on all names of a base."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """``targets``: the matrices whose tensor names it matches, of whatever tower; without it those of the decoder
    blocks. ``leave_out``: those that are none all the same. Regular expressions, searched for anywhere in a name."""

    targets: str = ""
    leave_out: str = ""

    def __post_init__(self) -> None:
        """Raises :class:`InputError` for a pattern that is no regular expression, or could be searched for without
        end."""
        for option, pattern in self._patterns():
            if len(pattern) > _LONGEST or not pattern.isprintable() or work(pattern, 100) > MOST_WORK:
                raise InputError(f"{option}: expected a simpler pattern than {pattern[:80]!r}")
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise InputError(f"{option}: {pattern[:80]!r} is no regular expression ({error})") from None

    def chosen(self, decoder: Collection[str], every: Collection[str], base: str) -> set[str]:
        """The targets among the names of ``every`` matrix of ``base``, of which ``decoder`` lie in decoder blocks.

        Raises :class:`InputError` for a pattern that matches none, and where none is left.
        """
        names = _matching("--targets", self.targets, every, base) if self.targets else list(decoder)
        if not self.leave_out:
            return set(names)
        left = set(names).difference(_matching("--leave-out", self.leave_out, names, base))
        if not left:
            raise InputError(f"{base}: --leave-out {self.leave_out!r} matches all {len(names)} target matrices")
        return left

    def to_json(self) -> dict[str, str]:
        """The patterns that are given, by their names here."""
        return {option.removeprefix("--").replace("-", "_"): pattern for option, pattern in self._patterns()}

    @property
    def words(self) -> str:
        """As on the command line; empty where nothing is chosen."""
        return " ".join(f"{option} {pattern!r}" for option, pattern in self._patterns())

    def _patterns(self) -> list[tuple[str, str]]:
        given = (("--targets", self.targets), ("--leave-out", self.leave_out))
        return [(option, pattern) for option, pattern in given if pattern]


def _matching(option: str, pattern: str, names: Collection[str], base: str) -> list[str]:
    longest = max(100, *map(len, names), 0)
    if len(names) * work(pattern, longest) > _MOST_WORK_IN_ALL or work(pattern, longest) > MOST_WORK:
        raise InputError(f"{option}: expected a simpler pattern than {pattern[:80]!r} for {len(names)} names")
    matching = [name for name in names if re.search(pattern, name)]
    if not matching:
        raise InputError(f"{base}: {option} {pattern!r} matches no matrix; there are {_kinds(names)}")
    return matching


def _kinds(names: Collection[str]) -> str:
    """The names with their numbers as N, each once."""
    kinds = dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)", "N", name) for name in names)
    return ", ".join(list(kinds)[:20]) + ", …" * (len(kinds) > 20)
