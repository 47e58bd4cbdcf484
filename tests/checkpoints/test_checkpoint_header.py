import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from gcwm_viz.checkpoints.header import MAX_HEADER_BYTES, read_header
from gcwm_viz.errors import InputError
from tests.checkpoints.tiny import raw_file

GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def test_header_agrees_with_the_library(tmp_path: Path) -> None:
    content = {
        "a": torch.zeros(2, 3),
        "b": torch.zeros(5, dtype=torch.float16),
        "c": torch.tensor(3),
        "e": torch.zeros(0, 4),
    }
    save_file(content, tmp_path / "x.safetensors", metadata={"format": "pt"})
    found, metadata = read_header(tmp_path / "x.safetensors")
    assert metadata == {"format": "pt"}
    assert {name: (info.dtype, info.shape) for name, info in found.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("F16", (5,)),
        "c": ("I64", ()),
        "e": ("F32", (0, 4)),
    }
    assert found["b"].nbytes == 10
    assert not found["c"].is_floating


@pytest.mark.parametrize(
    ("header", "data", "says"),
    [
        ({"a": GOOD}, b"\0" * 4, "truncated file"),
        ({"a": GOOD}, b"\0" * 12, "4 too many"),
        ({"a": {**GOOD, "dtype": "F99"}}, b"\0" * 8, "unknown dtype 'F99'"),
        ({"a": {**GOOD, "dtype": []}}, b"\0" * 8, "unknown dtype"),
        ({"a": {**GOOD, "shape": [3]}}, b"\0" * 8, "needs 12 bytes"),
        ({"a": {**GOOD, "shape": [-2]}}, b"\0" * 8, "malformed shape"),
        ({"a": {**GOOD, "shape": [True, 2]}}, b"\0" * 8, "malformed shape"),
        ({"a": {**GOOD, "shape": [2**40, 2**40]}}, b"\0" * 8, "give 8"),
        ({"a": {**GOOD, "data_offsets": [8, 0]}}, b"\0" * 8, "data_offsets 8..0"),
        ({"a": {**GOOD, "data_offsets": [0, 8, 9]}}, b"\0" * 8, "data_offsets"),
        ({"a": {**GOOD, "data_offsets": [10**12, 10**12 + 8]}}, b"\0" * 8, "leaves a gap"),
        ({"a": GOOD, "b": {**GOOD, "data_offsets": [4, 12]}}, b"\0" * 12, "'b' overlaps"),
        ({"a": {"dtype": "F32"}}, b"", "no dtype, shape and data_offsets"),
        ({"a\nb": GOOD}, b"\0" * 8, r"tensor 'a\nb' has a name that is not printable"),
        ({"a" * 501: GOOD}, b"\0" * 8, "over 500 characters"),
        ({"a": 3}, b"", "no dtype, shape and data_offsets"),
        ({"__metadata__": {"x": 1}, "a": GOOD}, b"\0" * 8, "metadata must map names to strings"),
        ([1, 2], b"", "must be a JSON object"),
        (b"{not json", b"", "not valid JSON"),
        (b"\xff\xfe{}", b"", "not valid JSON"),
        (b"[" * 100_000, b"", "nesting too deep"),
        (b"[" * 500_000, b"", "too many tensors"),
        (b'{"a": NaN}', b"", "NaN"),
        (b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{}}', b"\0" * 8, "names 'a' twice"),
    ],
)
def test_a_lying_header_is_refused_in_one_sentence(tmp_path: Path, header: Any, data: bytes, says: str) -> None:
    path = raw_file(tmp_path / "x.safetensors", header, data)
    with pytest.raises(InputError) as caught:
        read_header(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "truncated file"),
        (b"\1\2\3", "truncated file"),
        (struct.pack("<Q", 50) + b"{}", "truncated file, its header says 50 bytes, file has 2"),
        (struct.pack("<Q", 2**63) + b"{}", f"at most {MAX_HEADER_BYTES}"),
    ],
)
def test_a_header_length_is_not_believed(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_header(tmp_path / "x.safetensors")


def test_mutated_files_give_a_header_or_one_clean_error(tmp_path: Path) -> None:
    """Seeded mutations of a good file: nothing but InputError comes out, and what is accepted fits the file."""
    generator = random.Random(0)
    header = {
        "__metadata__": {"format": "pt"},
        "a": GOOD,
        "b": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [8, 16]},
    }
    good = bytearray(struct.pack("<Q", len(json.dumps(header))) + json.dumps(header).encode() + b"\0" * 16)
    path = tmp_path / "x.safetensors"
    accepted = 0
    for _ in range(1000):
        mutated = bytearray(good)
        for _ in range(generator.randint(1, 3)):
            place = generator.randrange(len(mutated))
            mutated[place] = generator.choice(
                [generator.randrange(256), mutated[place] ^ (1 << generator.randrange(8))]
            )
        if generator.random() < 0.2:
            del mutated[generator.randrange(len(mutated)) :]
        path.write_bytes(mutated)
        try:
            found, _ = read_header(path)
        except InputError:
            continue
        accepted += 1
        assert all(info.offset + info.nbytes <= len(mutated) for info in found.values())
    assert accepted < 600
