"""The target matrices of a base model: every Linear weight of the decoder blocks, or those chosen by name.

A block is a path with an integer component (``model.layers.3``, ``transformer.h.3``), see ``updates/towers.py``; what
lies in it as a 2-D floating ``.weight`` is a Linear weight, since norms are 1-D and embeddings lie outside the blocks.
Experts that the checkpoint stacks in one tensor (experts, d, d') are one matrix each, called ``tensor[i]``.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor

from gcwm_viz.checkpoints.header import TensorInfo
from gcwm_viz.checkpoints.index import CheckpointIndex, split_entry
from gcwm_viz.checkpoints.quantised import check_not_quantised
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import LowRank
from gcwm_viz.updates.choice import Choice
from gcwm_viz.updates.stacks import stack_layouts
from gcwm_viz.updates.towers import Towers, block_list, block_position, is_embedding

T = TypeVar("T", Tensor, LowRank)

# Within a block: attention, then the MLP, each in the order of the forward pass; unknown names follow by name.
_FORWARD_ORDER = (
    *("q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn", "o_proj", "out_proj", "dense"),
    *("gate", "router", "gate_proj", "w1", "up_proj", "w3", "gate_up_proj", "dense_h_to_4h", "fc1", "c_fc"),
    *("down_proj", "w2", "dense_4h_to_h", "fc2", "c_proj"),
)
_MLP = frozenset({"mlp", "ffn", "feed_forward", "feedforward", "moe", "block_sparse_moe", "experts"})
# Names of the number of experts per layer in configurations.
_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts")


@dataclass(frozen=True)
class MatrixKey:
    """One target matrix: ``name`` is the base tensor's, ``tensor[i]`` for the i-th expert of a stack; ``shape`` (d_out,
    d_in) in Linear layout.

    ``transposed``: the checkpoint stores (d_in, d_out), as GPT-2's Conv1D does. ``family`` is the module's name, with
    as much of its path as tells it from another module of the same block (``attn.c_proj``, ``experts.3.up_proj``); of
    another tower also that tower's path. ``layer`` is the number of the block, in whichever tower, and 0 outside of
    all.
    """

    name: str
    layer: int
    family: str
    shape: tuple[int, int]
    transposed: bool = False

    @property
    def stored_shape(self) -> tuple[int, int]:
        return (self.shape[1], self.shape[0]) if self.transposed else self.shape

    @property
    def parameters(self) -> int:
        return self.shape[0] * self.shape[1]

    def to_linear(self, stored: T) -> T:
        """A matrix in the checkpoint's layout, in Linear layout (d_out, d_in)."""
        return _transpose(stored) if self.transposed else stored

    def from_linear(self, linear: T) -> T:
        """A matrix in Linear layout, in the checkpoint's layout: the inverse of ``to_linear``."""
        return _transpose(linear) if self.transposed else linear


def depth(keys: Sequence[MatrixKey]) -> int:
    """Number of layers up to the last one that has a matrix among ``keys``."""
    return 1 + max(key.layer for key in keys)


def _transpose(matrix: T) -> T:
    if isinstance(matrix, LowRank):
        return LowRank(matrix.right_ri.mT, matrix.left_or.mT)
    return matrix.mT.contiguous()


def target_matrices(index: CheckpointIndex, choice: Choice | None = None) -> list[MatrixKey]:
    """The target matrices of a base, by layer and within it in the order of the forward pass, those beside the decoder
    last; headers only.

    Raises InputError when there are none, when the folder is an adapter, when weights are quantised, when
    biases show both weight layouts at once, and as :meth:`Choice.chosen` does.
    """
    for name, info in index.tensors.items():
        if ".lora_A" in name:
            raise InputError(f"{info.path}: tensor {name!r} is a LoRA factor, expected a full checkpoint as the base")
    check_not_quantised(index)
    towers = Towers.of(index)
    every = {name: info for name, info in index.tensors.items() if is_matrix(info)}
    stacks = stacked_experts(index)
    layouts: dict[str, bool | str] = stack_layouts(index, tuple(stacks.values())) if stacks else {}
    known = [tensor for tensor, layout in layouts.items() if isinstance(layout, bool)]
    every |= {name: index.stored(name) for tensor in known for name in entries(stacks[tensor])}
    decoder = {name: info for name, info in every.items() if towers.in_decoder(name)}
    chosen = (choice or Choice()).chosen(decoder, every, str(index.root))
    if not chosen:
        example = next(iter(index.tensors.values()))
        raise InputError(
            f"{index.root}: expected 2-D floating weights in decoder blocks (…layers.0….weight), found none "
            f"among {len(index.tensors)} tensors ({example.name!r} {example.dtype} {example.shape}, …)"
        )
    # Families and layout are those of whole towers, so that no choice changes the name of a family.
    beside: dict[str, dict[str, TensorInfo]] = {}
    for name in chosen - decoder.keys():
        beside.setdefault(block_list(name) or name, {})
    for name in every.keys() - decoder.keys():
        if (path := block_list(name) or name) in beside:
            beside[path][name] = every[name]
    keys = [key for key in _tower_keys(index, decoder, layouts) if key.name in chosen]
    for path, matrices in sorted(beside.items()):
        for key in _tower_keys(index, matrices, layouts):
            whole = key.name.removesuffix(".weight")
            family = f"{_label(path, towers)}.{key.family}" if path.endswith(".") else whole
            keys += [replace(key, family=family)] if key.name in chosen else []
    return keys


def _tower_keys(
    index: CheckpointIndex, matrices: dict[str, TensorInfo], layouts: Mapping[str, bool | str]
) -> list[MatrixKey]:
    """The matrices of one tower in their order; ``layouts``: of stacks, as :func:`stack_layouts`."""
    transposed = _stored_transposed(index, {name: info for name, info in matrices.items() if name in index.tensors})
    paths = {name: _path(name) for name in matrices}
    families = _families(list(paths.values()))
    keys = []
    for name, info in matrices.items():
        swapped = transposed if name in index.tensors else bool(layouts[split_entry(name)[0]])
        rows, columns = info.shape
        shape = (columns, rows) if swapped else (rows, columns)
        keys.append(MatrixKey(name, _layer(name), families[paths[name]], shape, swapped))
    return sorted(keys, key=lambda key: _forward_order(paths[key.name]))


def stacked_experts(base: CheckpointIndex) -> dict[str, TensorInfo]:
    """Tensors of decoder blocks that stack experts, by name."""
    return {
        name: info
        for name, info in base.tensors.items()
        if block_position(name) is not None and is_stack(name, info.shape, base)
    }


def is_stack(name: str, shape: tuple[int, ...], base: CheckpointIndex) -> bool:
    """Whether a tensor of a block of ``base`` is one matrix an expert: three dimensions, and either called experts or
    with as many entries as the config has experts (a convolution's kernel has neither)."""
    if len(shape) != 3 or 0 in shape or "experts" in name:
        return len(shape) == 3 and 0 not in shape
    configs = [config for config in (base.config, base.config.get("text_config")) if isinstance(config, dict)]
    counts = {config[count] for config in configs for count in _COUNTS if type(config.get(count)) is int}
    return shape[0] in counts and "conv" not in name


def entries(stack: TensorInfo) -> list[str]:
    """Names of a stack's matrices."""
    return [f"{stack.name}[{entry}]" for entry in range(stack.shape[0])]


def _label(path: str, towers: Towers) -> str:
    """Of a list of blocks beside the decoder, its path without what all of the model has:
    ``vision_tower.encoder.layers`` for ``model.vision_tower.encoder.layers.``."""
    tower = next(tower for tower in towers.others if path.startswith(tower))
    return ".".join(path.split(".")[tower.count(".") - 1 : -1])


def is_target(info: TensorInfo) -> bool:
    """Whether a tensor is a Linear weight of a block of any tower."""
    return is_matrix(info) and block_position(info.name) is not None


def is_matrix(info: TensorInfo) -> bool:
    """Whether a tensor is a Linear weight, by its name, shape and dtype, wherever it lies."""
    if not info.is_floating or len(info.shape) != 2 or not info.name.endswith(".weight") or 0 in info.shape:
        return False
    return not is_embedding(info.name)


def _layer(name: str) -> int:
    position = block_position(name)
    return 0 if position is None else int(name.split(".")[position])


def _path(name: str) -> str:
    """The name that a matrix would have as a module of its own: ``experts.3.up_proj.weight`` for
    ``experts.up_proj[3]``."""
    tensor, expert = split_entry(name)
    if expert is None:
        return name
    module, _, leaf = tensor.removesuffix(".weight").rpartition(".")
    return f"{module}.{expert}.{leaf}.weight"


def _module_parts(name: str) -> list[str]:
    """The path without ``.weight``."""
    return name.split(".")[:-1]


def _families(names: list[str]) -> dict[str, str]:
    """Family by tensor name: the shortest tail of the module path that no other module of any block has: the dense
    MLP of the first layers is not the shared expert of the others."""
    depth: dict[str, int] = {}
    role: dict[str, list[str]] = {}
    for name in names:
        parts = _module_parts(name)
        after_layer = (block_position(name) or 0) + 1
        numbers = [position for position in range(after_layer, len(parts)) if parts[position].isdecimal()]
        # A number after the layer's is an expert's: it and the name before it belong to the family.
        depth[name] = len(parts) - (numbers[0] - 1 if numbers and numbers[0] > after_layer else len(parts) - 1)
        role[name] = parts[after_layer:]
    while True:
        families = {name: ".".join(_module_parts(name)[-depth[name] :]) for name in names}
        counts = Counter((_layer(name), family) for name, family in families.items())
        roles = Counter(family for family, _ in {(families[name], tuple(role[name])) for name in names})
        deeper = [
            name
            for name in names
            if (counts[_layer(name), families[name]] > 1 and depth[name] < len(_module_parts(name)))
            or (roles[families[name]] > 1 and depth[name] < len(role[name]))
        ]
        if not deeper:
            return families
        for name in deeper:
            depth[name] += 1


def _forward_order(name: str) -> tuple[object, ...]:
    parts = _module_parts(name)
    after_layer = (block_position(name) or 0) + 1
    inner = parts[after_layer:]
    expert = next((int(part) for part in inner if part.isdecimal()), -1)
    module = parts[-1]
    rank = _FORWARD_ORDER.index(module) if module in _FORWARD_ORDER else len(_FORWARD_ORDER)
    return _layer(name), bool(_MLP.intersection(inner)), expert, rank, name


def _stored_transposed(index: CheckpointIndex, targets: dict[str, TensorInfo]) -> bool:
    """True when the blocks store (d_in, d_out): their biases, of length d_out, then fit the columns only."""
    rows: list[str] = []
    columns: list[str] = []
    for name, info in targets.items():
        bias = index.tensors.get(name.removesuffix("weight") + "bias")
        if bias is None or len(bias.shape) != 1 or info.shape[0] == info.shape[1]:
            continue
        if bias.shape[0] == info.shape[0]:
            rows.append(name)
        elif bias.shape[0] == info.shape[1]:
            columns.append(name)
        else:
            raise InputError(
                f"{bias.path}: tensor {bias.name!r} has shape {bias.shape}, expected the length of a side of its "
                f"weight of shape {info.shape}"
            )
    if rows and columns:
        raise InputError(
            f"{index.root}: {rows[0]!r} stores (d_out, d_in) but {columns[0]!r} stores (d_in, d_out) by their biases, "
            "expected one layout"
        )
    return bool(columns)
