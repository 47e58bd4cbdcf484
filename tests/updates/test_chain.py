"""Checkpoints of one training given as experts: what tells them from experts that were trained apart."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.experiments.lab.bundle import locate
from gcwm_viz.updates.chain import chain_note
from gcwm_viz.updates.matrices import MatrixKey
from gcwm_viz.updates.pairing import open_update, target_matrices
from gcwm_viz.updates.source import UpdateSource
from tests.checkpoints import tiny

CONTAINS = "each seems to have been trained on from the one before"


@pytest.fixture
def write(base: CheckpointIndex, tmp_path: Path) -> Callable[..., list[UpdateSource]]:
    """Full checkpoints base + Δ by name; Δ is a table of matrices."""

    def write(**updates: dict[str, Tensor]) -> list[UpdateSource]:
        sources = []
        for name, update in updates.items():
            content = {key: tensor + update.get(key, 0) for key, tensor in tiny.tensors(base.root).items()}
            folder = tiny.store(tmp_path / name, content)
            (folder / "config.json").write_text(json.dumps(base.config))
            sources.append(open_update(name, folder, base))
        return sources

    return write


def trained(base: CheckpointIndex, seed: int, scale: float = 0.05) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        key.name: scale * torch.randn(key.stored_shape, generator=generator, dtype=torch.float32)
        for key in target_matrices(base)
    }


def added(*updates: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.as_tensor(sum(update[name] for update in updates)) for name in updates[0]}


def test_a_chain_is_seen(base: CheckpointIndex, write: Callable[..., list[UpdateSource]]) -> None:
    one, two, three = (trained(base, seed) for seed in (1, 2, 3))
    sources = write(a=one, b=added(one, two), c=added(one, two, three))
    note = chain_note(base, sources)
    assert f"{CONTAINS}: a → b → c (" in note
    assert "nearly the same" not in note
    apart = write(d=trained(base, 4), **{"e": trained(base, 5)})
    assert f"{CONTAINS}: a → b (" in chain_note(base, [apart[0], *sources[:2], apart[1]])


@pytest.mark.parametrize("scale", [0.001, 0.05, 2])
def test_experts_that_were_trained_apart(
    base: CheckpointIndex, write: Callable[..., list[UpdateSource]], scale: float
) -> None:
    """Of any size: a small one is no part of a large one."""
    sources = write(a=trained(base, 1), b=trained(base, 2, scale), c=trained(base, 3))
    assert chain_note(base, sources) == ""
    assert chain_note(base, sources[:1]) == chain_note(base, []) == ""


def test_experts_with_something_in_common(base: CheckpointIndex, write: Callable[..., list[UpdateSource]]) -> None:
    """A third of the energy shared: cosine and coefficient a third."""
    common, scale = trained(base, 9), 2**0.5
    sources = write(**{name: added(common, trained(base, seed, 0.05 * scale)) for seed, name in enumerate("abc")})
    assert chain_note(base, sources) == ""


def test_one_update_twice(base: CheckpointIndex, write: Callable[..., list[UpdateSource]]) -> None:
    one = trained(base, 1)
    note = chain_note(base, write(a=one, b=added(one, trained(base, 2, 0.001))))
    assert note.startswith("a and b are nearly the same update (apart by ")
    assert CONTAINS not in note


def test_what_only_the_former_has_is_no_chain(base: CheckpointIndex, write: Callable[..., list[UpdateSource]]) -> None:
    one, two = trained(base, 1), trained(base, 2)
    less = {name: tensor for name, tensor in added(one, two).items() if "q_proj" not in name}
    assert chain_note(base, write(a=one, b=less)) == ""
    few = {name: tensor for name, tensor in one.items() if "q_proj" in name}
    assert f"{CONTAINS}: c → d (" in chain_note(base, write(c=few, d=two | added(few, two)))


def test_adapters_and_the_reading_is_bounded(
    base: CheckpointIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _, _ = tiny.lora("qwen3", tmp_path / "a", r=2, target_modules="all-linear")
    other, _, _ = tiny.lora("qwen3", tmp_path / "b", seed=1, r=2, target_modules="all-linear")
    sources = [open_update(name, path, base) for name, path in (("a", folder), ("b", other), ("c", other))]
    read: list[str] = []
    for source in sources:

        def watched(key: MatrixKey, delta: Callable[[MatrixKey], Any] = source.delta) -> Any:
            read.append(key.name)
            return delta(key)

        monkeypatch.setattr(source, "delta", watched)
    assert chain_note(base, sources) == "b and c are nearly the same update (apart by 0.0% of its norm)"
    assert len(read) == 3 * 6
    monkeypatch.setattr("gcwm_viz.updates.chain._PARAMETERS", 1)
    read.clear()
    chain_note(base, sources)
    assert len(read) == 3


def test_the_lab() -> None:
    """Six experts trained apart, and the states of training on the same tasks in sequence."""
    lab = locate()
    index = CheckpointIndex.open(lab.base)
    assert chain_note(index, [open_update(name, path, index) for name, path in lab.updates.items()]) == ""
    states = [open_update(f"step {step}", path, index) for step, path in lab.sft.items()]
    assert f"{CONTAINS}: step 1 → step 2 → step 3 → step 4 → step 5 → step 6 (" in chain_note(index, states)
