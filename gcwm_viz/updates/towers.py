"""The towers of a model by its structure: the language model, whose decoder blocks are merged, and others beside it,
such as a vision tower or an encoder.

Blocks lie in lists (``model.layers.3``). The language model is the innermost module that holds both the token
embeddings and lists of blocks; its decoder blocks are the lists nearest to it (a vision tower inside it lies deeper),
and the decoder's where an encoder's lie beside them. So no architecture needs to be named.
"""

from dataclasses import dataclass

from gcwm_viz.checkpoints.index import CheckpointIndex

_TABLES = frozenset({"wte", "wpe", "shared", "relative_attention_bias"})
"""Modules of embeddings whose names do not say so."""


@dataclass(frozen=True)
class Towers:
    """Paths with their last dot. ``model``: of the language model, empty where that is all of the model; ``decoder``:
    of its lists of decoder blocks (``model.layers.``); ``others``: of the modules that hold the other lists of blocks,
    outermost (``model.visual.``)."""

    model: str
    decoder: frozenset[str]
    others: tuple[str, ...]

    @classmethod
    def of(cls, base: CheckpointIndex) -> "Towers":
        """Headers only. Without token embeddings the whole model counts as the language model."""
        lists = dict.fromkeys(filter(None, map(block_list, base.tensors)))
        around = {path for each in lists for path in paths(each)}
        model = next((path for path in reversed(paths(_token_embeddings(base))) if path in around), "")
        dots = {path: path.count(".") for path in lists if path.startswith(model)}
        fewest = min(dots.values(), default=0)
        nearest = [path for path, count in dots.items() if count == fewest]
        decoder = frozenset([path for path in nearest if "encoder" not in path.split(".")] or nearest)
        within = {path for each in decoder for path in paths(each)}
        rest = [each for each in lists if each not in decoder]
        others = (next((path for path in paths(each) if path not in within), each) for each in rest)
        return cls(model, decoder, tuple(dict.fromkeys(others)))

    def in_decoder(self, name: str) -> bool:
        """Whether a tensor lies in a decoder block."""
        return block_list(name) in self.decoder


def block_position(name: str) -> int | None:
    """Position of the block's number in the dotted ``name``, None for a tensor outside every list of blocks.

    A block is a module of modules: ``mm_projector.2.weight`` belongs to a layer of a sequence, not to a block.
    """
    inner = enumerate(name.split(".")[:-2])
    return next((position for position, part in inner if part.isascii() and part.isdecimal()), None)


def block_list(name: str) -> str:
    """Path of the list whose block the tensor ``name`` lies in, with its last dot; empty outside of all."""
    position = block_position(name)
    return "".join(f"{part}." for part in name.split(".")[:position]) if position else ""


def is_embedding(name: str) -> bool:
    """Whether a tensor's name says that it is a table of embeddings."""
    modules = name.split(".")[:-1]
    return bool(_TABLES.intersection(modules[-1:])) or any("embed" in module for module in modules)


def _token_embeddings(base: CheckpointIndex) -> str:
    """The table of embeddings outside the blocks with a row a token by the config, else the largest; of equal ones the
    innermost; empty without any."""
    configs = [config for config in (base.config, base.config.get("text_config")) if isinstance(config, dict)]
    sizes = [config.get("vocab_size") for config in configs]
    tables = {
        name: (info.shape[0] in sizes, info.shape[0], name.count("."))
        for name, info in base.tensors.items()
        if len(info.shape) == 2 and is_embedding(name) and block_position(name) is None
    }
    return max(tables, key=tables.__getitem__, default="")


def paths(name: str) -> list[str]:
    """Paths of the modules around a tensor or list, outermost first, each with its last dot; of a list its own too."""
    paths = [""]
    for part in name.split(".")[:-1]:
        paths.append(f"{paths[-1]}{part}.")
    return paths[1:]
