"""Whole checkpoints written in the form that transformers loads, one tensor in memory at a time."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.checkpoints.atomic import (
    DTYPES,
    atomic_file,
    atomic_folder,
    stream_safetensors,
    write_bytes,
    write_json,
)
from gcwm_viz.checkpoints.header import DTYPE_BITS, TensorInfo
from gcwm_viz.checkpoints.index import ADAPTER_CONFIG, CheckpointIndex
from gcwm_viz.checkpoints.location import is_remote, local_only
from gcwm_viz.checkpoints.model_config import read_config
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.checkpoints.space import check_space
from gcwm_viz.errors import InputError

# Only data is copied along with the weights: no code, no pickles, no training state.
_COMPANION_SUFFIXES = frozenset({".json", ".txt", ".model", ".jinja", ".tiktoken"})
_COMPANION_STEMS = ("LICENSE", "NOTICE")
_LEFT_BEHIND = frozenset({ADAPTER_CONFIG, "update.json", "trainer_state.json", "recipe.json", "README.md"})
_COMPANION_BYTES = 200_000_000

_Layout = tuple[str, str, tuple[int, ...]]


def export_checkpoint(
    base: CheckpointIndex,
    replace: Callable[[str], Tensor | None],
    out: str | Path,
    *,
    model_card: str | Callable[[], str],
    dtype: torch.dtype | None = None,
    max_shard_bytes: int = 5 * 2**30,
    inputs: Iterable[str | Path] = (),
    beside: Mapping[str, Any] | None = None,
) -> Path:
    """A copy of ``base`` in ``out`` with the tensors that ``replace(name)`` returns; None keeps the base's own.

    ``replace`` is called once per tensor, in shard order, and returns the stored layout (``MatrixKey.from_linear``
    for GPT-2) and any floating dtype. ``dtype`` recasts every floating tensor, None keeps the base's dtypes. The
    tensors are those of the base, so tied embeddings stay tied. More than ``max_shard_bytes`` of weights become shards
    with ``model.safetensors.index.json``. Config, tokenizer and generation files are copied, ``model_card`` (or what it
    returns once all tensors are written) becomes README.md; ``beside`` is JSON content by file name. ``out`` appears
    complete or not at all.

    Raises InputError for a non-empty ``out`` or one inside the base or any of ``inputs``, too little disk space, a
    replacement of another shape, and a NaN or infinite value (a value that overflows ``dtype`` included).
    """
    out = Path(out)
    local_only(base.root, "an export, which copies the base's files,")
    check_outside(out, (base.root, *map(Path, inputs)))
    if dtype is not None and dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        raise InputError(f"{out}: cannot export as {dtype}, expected float64, float32, float16 or bfloat16")
    layout = [(info.name, _target_dtype(info, dtype), info.shape) for info in base.tensors.values()]
    layout.sort(key=lambda entry: _natural(entry[0]))
    shards = _split(layout, max_shard_bytes)
    check_space(out, sum(map(_bytes, layout)), "the checkpoint")

    def read(name: str) -> Tensor:
        return _tensor(base.tensors[name], replace(name), dtype, out)

    with atomic_folder(out) as partial:
        _copy_companions(base, partial, dtype)
        names = _shard_names(len(shards))
        for file_name, shard in zip(names, shards, strict=True):
            with atomic_file(partial / file_name) as file:
                stream_safetensors(file, shard, read, {"format": "pt"}, out / file_name)
        if len(shards) > 1:
            total = {"total_parameters": base.parameters, "total_size": sum(map(_bytes, layout))}
            weight_map = {entry[0]: name for name, shard in zip(names, shards, strict=True) for entry in shard}
            write_json(
                partial / "model.safetensors.index.json",
                {"metadata": total, "weight_map": dict(sorted(weight_map.items()))},
            )
        for name, content in (beside or {}).items():
            write_json(partial / name, content)
        card = model_card if isinstance(model_card, str) else model_card()
        write_bytes(partial / "README.md", card.encode("utf-8"))
    return out


def check_outside(out: Path, inputs: Iterable[Path]) -> None:
    """Raises InputError when ``out`` is one of ``inputs`` or lies inside one."""
    for folder in inputs:
        if not is_remote(folder) and out.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{out}: lies inside the input {folder}, expected a folder outside every input")


def _target_dtype(info: TensorInfo, dtype: torch.dtype | None) -> str:
    return DTYPES[dtype] if dtype is not None and info.is_floating else info.dtype


def _bytes(entry: _Layout) -> int:
    return math.prod(entry[2]) * DTYPE_BITS[entry[1]] // 8


def _split(layout: Sequence[_Layout], max_shard_bytes: int) -> list[list[_Layout]]:
    shards: list[list[_Layout]] = [[]]
    filled = 0
    for entry in layout:
        if shards[-1] and filled + _bytes(entry) > max_shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(entry)
        filled += _bytes(entry)
    return shards


def _shard_names(count: int) -> list[str]:
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def _tensor(info: TensorInfo, replacement: Tensor | None, dtype: torch.dtype | None, out: Path) -> Tensor:
    if replacement is None:
        tensor = read_tensor(info)
        return tensor.to(dtype) if dtype is not None and info.is_floating else tensor
    if tuple(replacement.shape) != info.shape:
        raise InputError(
            f"{out}: tensor {info.name!r} to be written has shape {tuple(replacement.shape)}, "
            f"expected {info.shape} as in {info.path}"
        )
    if not info.is_floating:
        raise InputError(f"{out}: tensor {info.name!r} is {info.dtype} in {info.path} and cannot be replaced")
    own = next(torch_dtype for torch_dtype, name in DTYPES.items() if name == info.dtype)
    return replacement.detach().cpu().to(dtype or own)


def _copy_companions(base: CheckpointIndex, partial: Path, dtype: torch.dtype | None) -> None:
    for source in sorted(base.root.iterdir()):
        if (
            source.name in _LEFT_BEHIND
            or source.name.startswith(".")
            or source.name.endswith(".safetensors.index.json")
        ):
            continue
        is_data = source.suffix in _COMPANION_SUFFIXES or source.name.startswith(_COMPANION_STEMS)
        if not is_data or not source.is_file() or source.stat().st_size > _COMPANION_BYTES:
            continue
        if source.name == "config.json" and dtype is not None:
            config = read_config(source)
            # transformers wrote torch_dtype up to version 4 and reads both.
            config = {key: value for key, value in config.items() if key != "torch_dtype"}
            write_json(partial / source.name, {**config, "dtype": str(dtype).removeprefix("torch.")})
        else:
            write_bytes(partial / source.name, source.read_bytes())


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in name.split(".")]
