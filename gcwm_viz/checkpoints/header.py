"""The header of a safetensors file, read by a bounded parser that trusts nothing in the file.

Format: 8 bytes little-endian header length, a JSON object ``{name: {dtype, shape, data_offsets}}`` with an optional
``__metadata__`` of strings, then the tensors' bytes without gaps. Source: the safetensors format description.
"""

import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gcwm_viz.errors import InputError

MAX_HEADER_BYTES = 100_000_000  # the safetensors library's own limit
MAX_TENSORS = 200_000  # the largest published shards hold a few thousand; each parsed entry costs about a kilobyte
MAX_NAME = 500
MAX_JSON_BYTES = 50_000_000

DTYPE_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
FLOATING = frozenset({"F64", "F32", "F16", "BF16"})
FLOAT8 = frozenset({"F8_E4M3", "F8_E5M2"})


@dataclass(frozen=True)
class TensorInfo:
    """The header's entry of one tensor: shape as stored, ``offset`` of its first byte in the file. For :meth:`part` of
    one, ``entry`` and ``first`` say which: the entry of the leading dimension and its first row."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    nbytes: int
    offset: int
    entry: int | None = None
    first: int = 0

    def part(self, entry: int, rows: tuple[int, int] | None = None) -> "TensorInfo":
        """The ``entry``-th matrix of a stack (n, d, d'), or its ``rows`` from the first up to the last, exclusive."""
        count, height, width = self.shape
        first, stop = rows or (0, height)
        assert self.entry is None
        assert 0 <= entry < count
        assert 0 <= first < stop <= height
        row = self.nbytes // (count * height)
        return replace(
            self,
            shape=(stop - first, width),
            nbytes=(stop - first) * row,
            offset=self.offset + (entry * height + first) * row,
            entry=entry,
            first=first,
        )

    @property
    def is_floating(self) -> bool:
        """True for F64, F32, F16 and BF16; 8-bit floats are storage formats that need scales, not weights."""
        return self.dtype in FLOATING

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)


class _RepeatedKeyError(ValueError):
    pass


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _RepeatedKeyError(repeated)
    return result


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"the constant {text}")


def parse_json_object(
    raw: bytes, path: Path, what: str, *, constant: Callable[[str], Any] = _refuse_constant
) -> dict[str, Any]:
    """``raw`` as a JSON object; InputError for anything else, a repeated key included.

    ``constant``: what Infinity, -Infinity and NaN, which JSON does not have, are read as; by default they are an error.
    """
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique_pairs, parse_constant=constant)
    except _RepeatedKeyError as error:
        raise InputError(f"{path}: {what} names {str(error)!r} twice, expected every name once") from None
    except (ValueError, RecursionError) as error:
        reason = "nesting too deep" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{path}: {what} is not valid JSON ({reason[:200]})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: {what} must be a JSON object, found {type(value).__name__}")
    return value


def read_json_object(path: Path, what: str, *, constant: Callable[[str], Any] = _refuse_constant) -> dict[str, Any]:
    """The JSON object in a small file; InputError when it is missing, too large or not an object. ``constant``: as in
    :func:`parse_json_object`."""
    try:
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise InputError(f"{path}: {what} has {size} bytes, expected at most {MAX_JSON_BYTES}")
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read {what} ({error.strerror or error})") from None
    return parse_json_object(raw, path, what, constant=constant)


def read_header(path: Path) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """Tensors (in file order) and metadata of one safetensors file; reads no weights.

    Raises InputError for a truncated file, a header that is too long, malformed, or at odds with the file's size.
    """
    try:
        file_bytes = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            if len(prefix) < 8:
                raise InputError(
                    f"{path}: truncated file, expected at least 8 bytes of header length, has {file_bytes}"
                )
            (length,) = struct.unpack("<Q", prefix)
            if length > MAX_HEADER_BYTES:
                raise InputError(
                    f"{path}: not a safetensors file or a damaged one, its header claims {length} bytes, "
                    f"expected at most {MAX_HEADER_BYTES}"
                )
            if length > file_bytes - 8:
                raise InputError(f"{path}: truncated file, its header says {length} bytes, file has {file_bytes - 8}")
            raw = file.read(length)
    except OSError as error:
        raise InputError(f"{path}: cannot read the file ({error.strerror or error})") from None
    # Counted before parsing, so that a header of nothing but brackets cannot fill the memory with Python objects.
    if raw.count(b"{") + raw.count(b"[") > 2 * MAX_TENSORS + 2 or raw.count(b",") > 10 * MAX_TENSORS:
        raise InputError(f"{path}: header lists too many tensors, expected at most {MAX_TENSORS}")
    entries = parse_json_object(raw, path, "safetensors header")
    metadata = _metadata(entries.pop("__metadata__", {}), path)
    data_start = 8 + length
    tensors = [_tensor(name, entry, path, data_start) for name, entry in entries.items()]
    tensors.sort(key=lambda info: (info.offset, info.nbytes, info.name))
    _check_layout(tensors, path, data_start, file_bytes)
    return {info.name: info for info in tensors}, metadata


def _metadata(value: Any, path: Path) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise InputError(f"{path}: header metadata must map names to strings")
    return value


def _tensor(name: str, entry: Any, path: Path, data_start: int) -> TensorInfo:
    if len(name) > MAX_NAME or not name.isprintable():
        raise InputError(f"{path}: tensor {name[:80]!r} has a name that is not printable or over {MAX_NAME} characters")
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise InputError(f"{path}: tensor {name!r} has no dtype, shape and data_offsets in the header")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise InputError(
            f"{path}: tensor {name!r} has the unknown dtype {str(dtype)[:50]!r}, expected one of F32, F16, …"
        )
    if not _is_sizes(shape) or not _is_sizes(offsets) or len(offsets) != 2 or len(shape) > 16:
        raise InputError(f"{path}: tensor {name!r} has a malformed shape or data_offsets in the header")
    begin, end = offsets
    bits = math.prod(shape) * DTYPE_BITS[dtype]
    if begin > end or bits % 8 or end - begin != bits // 8:
        raise InputError(
            f"{path}: tensor {name!r} of dtype {dtype} and shape {tuple(shape)} needs {bits // 8} bytes, "
            f"its data_offsets {begin}..{end} give {end - begin}"
        )
    return TensorInfo(name, dtype, tuple(shape), path, end - begin, data_start + begin)


def _is_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**62 for item in value)


def _check_layout(tensors: list[TensorInfo], path: Path, data_start: int, file_bytes: int) -> None:
    expected = data_start
    for info in tensors:
        if info.offset != expected:
            fault = "overlaps the tensor before it" if info.offset < expected else "leaves a gap before it"
            raise InputError(
                f"{path}: tensor {info.name!r} {fault}: expected it at byte {expected - data_start} of the data, "
                f"found {info.offset - data_start}"
            )
        expected += info.nbytes
    if expected > file_bytes:
        raise InputError(f"{path}: truncated file, its header says {expected} bytes, file has {file_bytes}")
    if expected < file_bytes:
        raise InputError(
            f"{path}: header says {expected} bytes, file has {file_bytes}: {file_bytes - expected} too many"
        )
