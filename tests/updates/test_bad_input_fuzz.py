"""Seeded mutations of every file of an update: what comes out is a plan with finite updates or one InputError."""

import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError
from gcwm_viz.updates.pairing import open_update, plan
from tests.checkpoints import tiny

PIECES = [b"{", b"}", b"[", b'"', b",", b"null", b"-1", b"1e999", b"NaN", b"\xff", b"", b"999999999999", b"\\u0000"]


def mutate(content: bytes, generator: random.Random, limit: int) -> bytes:
    mutated = bytearray(content)
    for _ in range(generator.randint(1, 3)):
        place = generator.randrange(min(len(mutated), limit))
        mutated[place : place + generator.randint(0, 6)] = generator.choice(PIECES)
    return bytes(mutated)


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("adapter", "adapter_config.json"),
        ("adapter", "adapter_model.safetensors"),
        ("sharded", "model.safetensors.index.json"),
        ("sharded", "config.json"),
    ],
)
def test_mutated_files_end_in_a_plan_or_one_sentence(tmp_path: Path, kind: str, file: str) -> None:
    base = CheckpointIndex.open(tiny.save(tiny.model("qwen3"), tmp_path / "base"))
    if kind == "adapter":
        settings: dict[str, Any] = {
            "r": 2,
            "target_modules": ["q_proj"],
            "alpha_pattern": {"layers.1.self_attn.q_proj": 3},
        }
        folder = tiny.lora("qwen3", tmp_path / "good", **settings)[0]
    else:
        folder = tiny.save(tiny.model("qwen3", seed=1), tmp_path / "good", max_shard_size="8KB")
    shutil.copytree(folder, tmp_path / "bad")
    good = (folder / file).read_bytes()
    generator = random.Random(7)
    sentences: list[str] = []
    for _ in range(120):
        (tmp_path / "bad" / file).write_bytes(mutate(good, generator, 1500))
        try:
            source = open_update("x", tmp_path / "bad", base)
            found = plan(base, [source])
            source.delta(found.keys[0])
        except InputError as error:
            sentences.append(str(error))
    assert len(sentences) > 20
    assert not any("\n" in sentence for sentence in sentences)
