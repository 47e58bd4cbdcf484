"""Files and folders that appear under their final name complete or not at all.

Each is built under a hidden name in the same folder, flushed to disk, then renamed. Safetensors are written here too,
streamed tensor by tensor: the safetensors library keeps a whole file in memory and orders metadata at random, so the
same tensors would not give the same bytes.
"""

import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from gcwm_viz.checkpoints.header import DTYPE_BITS
from gcwm_viz.checkpoints.reader import check_finite
from gcwm_viz.errors import InputError, named_write_errors

try:
    import fcntl
except ImportError:  # no file locks on this system: a partial folder then counts as a dead process's
    fcntl = None  # type: ignore[assignment]

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def partial_name(path: Path) -> Path:
    """The hidden name under which ``path`` is built; a leftover of a killed process is overwritten."""
    return path.with_name(f".{path.name}.partial")


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that takes the place of ``path`` when the block ends without an exception.

    Raises InputError naming ``path`` where the system refuses to write (no space, no permission).
    """
    path = Path(path)
    partial = partial_name(path)
    with named_write_errors(path):
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """An empty folder to fill, renamed to ``path`` when the block ends without an exception.

    ``path`` must be absent or empty. Raises InputError when it is not, when another process is filling it, and where
    the system refuses to write.
    """
    path = Path(path)
    with named_write_errors(path):
        if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
            raise InputError(f"{path}: expected a new or empty folder to write into, found something there already")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_name(path)
        partial.mkdir(exist_ok=True)
        handle = os.open(partial, os.O_RDONLY)
        try:
            if fcntl is not None:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise InputError(f"{path}: another process is writing this folder") from None
            try:
                _empty(partial)
                yield partial
                sync_folder(partial)
                os.replace(partial, path)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            sync_folder(path.parent)
        finally:
            os.close(handle)


def write_bytes(path: str | Path, data: bytes) -> None:
    """``data`` as the whole content of ``path``, atomically."""
    with atomic_file(path) as file:
        file.write(data)


def write_json(path: str | Path, value: Any) -> None:
    """``value`` as indented JSON, atomically; ValueError for NaN and infinities, which JSON does not have."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, text.encode("utf-8") + b"\n")


def write_safetensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """``tensors`` as one safetensors file, atomically; the same input gives the same bytes.

    Raises InputError naming the tensor when one holds a NaN or infinite value.
    """
    layout = [(name, DTYPES[tensor.dtype], tuple(tensor.shape)) for name, tensor in tensors.items()]
    with atomic_file(path) as file:
        stream_safetensors(file, layout, lambda name: tensors[name], metadata or {}, Path(path))


def stream_safetensors(
    file: BinaryIO,
    layout: Sequence[tuple[str, str, tuple[int, ...]]],
    read: Callable[[str], Tensor],
    metadata: Mapping[str, str],
    path: Path,
) -> None:
    """Writes tensors of known (name, dtype, shape) into an open file, calling ``read`` for one at a time.

    Widest dtypes first, then by name: every tensor then starts at a multiple of its item size.
    """
    order = sorted(layout, key=lambda entry: (-DTYPE_BITS[entry[1]], entry[0]))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    begin = 0
    for name, dtype, shape in order:
        end = begin + math.prod(shape) * DTYPE_BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    raw += b" " * (-len(raw) % 8)
    file.write(struct.pack("<Q", len(raw)) + raw)
    for name, dtype, shape in order:
        tensor = read(name).detach().cpu().contiguous()
        if tensor.is_floating_point() and tensor.element_size() > 1:
            check_finite(tensor, f"{path}: tensor {name!r} to be written")
        assert tuple(tensor.shape) == shape, (name, tuple(tensor.shape), shape)
        content = tensor.reshape(-1).view(torch.uint8).numpy().data
        assert content.nbytes == math.prod(shape) * DTYPE_BITS[dtype] // 8, (name, dtype)
        file.write(content)


def sync_folder(path: Path) -> None:
    """Flushes a folder's entries, so that a rename in it survives a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _empty(folder: Path) -> None:
    for item in folder.iterdir():
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item)
        else:
            item.unlink()
