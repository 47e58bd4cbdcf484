"""What a tensor outside the target matrices is: part of another tower, of what joins it to the language model, of a
state-space mixer, a Linear weight that was left out, or by its name a bias, head, embedding, norm or something else."""

from collections import Counter
from collections.abc import Iterable

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.updates.matrices import is_matrix
from gcwm_viz.updates.towers import Towers, is_embedding, paths

GROUPS = (
    *("vision tower", "audio tower", "other towers", "projector", "state space", "matrices"),
    *("biases", "head", "embeddings", "norms", "other"),
)

_HEADS = frozenset({"lm_head", "embed_out", "score", "classifier", "qa_outputs"})
_SENSES = {"vision tower": ("vision", "visual", "image", "vit"), "audio tower": ("audio", "speech", "sound")}
"""What the names of towers say; those of a tower that none fits are other towers."""


def column(group: str) -> str:
    """Of a group's share of an update's energy."""
    return f"outside_{group.replace(' ', '_')}"


class Groups:
    """The groups of a base's tensors; headers only."""

    def __init__(self, base: CheckpointIndex) -> None:
        self._base, self._towers = base, Towers.of(base)
        self._senses = {path: _sense(path) for path in self._towers.others}
        self._joined = any(sense in _SENSES for sense in self._senses.values())
        self._mixers = {
            paths(name)[-2]
            for name, info in base.tensors.items()
            if len(info.shape) > 2 and info.shape[1] == 1 and self._towers.in_decoder(name)
        }

    def group(self, name: str) -> str:
        """One of ``GROUPS``, the first that fits."""
        around = paths(name)
        tower = next((self._senses[path] for path in around if path in self._senses), None)
        if tower:
            return tower
        by_name = group(name)
        beside = not name.startswith(self._towers.model) or any("project" in path for path in around)
        if self._joined and beside and by_name != "head" and not self._towers.in_decoder(name):
            return "projector"
        info = self._base.tensors.get(f"{name.removesuffix('.bias')}.weight" if name.endswith(".bias") else name)
        of_matrix = info is not None and is_matrix(info)
        if by_name in ("biases", "other") and not of_matrix and not self._mixers.isdisjoint(around):
            return "state space"
        return "matrices" if by_name == "other" and of_matrix else by_name

    def counts(self, names: Iterable[str]) -> dict[str, int]:
        """How many of ``names`` each group has, of those that have any."""
        counts = Counter(map(self.group, names))
        return {group: counts[group] for group in GROUPS if counts[group]}

    def counted(self, names: Iterable[str]) -> str:
        """The counts in words, as in ``head 1, norms 4``."""
        return ", ".join(f"{group} {count}" for group, count in self.counts(names).items())


def group(name: str) -> str:
    """What the name alone says: one of the last of ``GROUPS``, the first that fits."""
    *modules, leaf = name.split(".")
    if leaf == "bias" or leaf.endswith("_bias"):
        return "biases"
    if _HEADS.intersection(modules):
        return "head"
    if is_embedding(name):
        return "embeddings"
    last = (modules or [leaf])[-1]
    return "norms" if "norm" in last or last.startswith("ln_") else "other"


def _sense(path: str) -> str:
    return next((sense for sense, words in _SENSES.items() if any(word in path for word in words)), "other towers")
