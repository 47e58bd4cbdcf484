"""What a tensor outside the target matrices is, by its name: bias, head, embedding, norm or something else."""

from collections import Counter
from collections.abc import Iterable

GROUPS = ("biases", "head", "embeddings", "norms", "other")

_HEADS = frozenset({"lm_head", "embed_out", "score", "classifier", "qa_outputs"})
_EMBEDDINGS = frozenset({"wte", "wpe", "shared", "relative_attention_bias"})


def group(name: str) -> str:
    """One of ``GROUPS``, the first that fits."""
    *modules, leaf = name.split(".")
    if leaf == "bias" or leaf.endswith("_bias"):
        return "biases"
    if _HEADS.intersection(modules):
        return "head"
    if _EMBEDDINGS.intersection(modules) or any("embed" in module for module in modules):
        return "embeddings"
    last = (modules or [leaf])[-1]
    return "norms" if "norm" in last or last.startswith("ln_") else "other"


def counted(names: Iterable[str]) -> str:
    """How many of ``names`` each group has, as in ``head 1, norms 4``."""
    counts = Counter(map(group, names))
    return ", ".join(f"{name} {counts[name]}" for name in GROUPS if counts[name])
