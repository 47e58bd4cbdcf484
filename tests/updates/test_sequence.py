"""States of one training: recognised by the names of their folders, read as states, increments or experts."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gcwm_viz.checkpoints.hub import local_folder, split_pair
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import LowRank, dense
from gcwm_viz.updates.matrices import MatrixKey
from gcwm_viz.updates.outside import outside_share
from gcwm_viz.updates.pairing import open_update, plan
from gcwm_viz.updates.sequence import (
    EXPERTS,
    INCREMENTS,
    STATES,
    in_sequence,
    open_sequence,
    read_as,
    sequence_warning,
)
from tests.checkpoints import tiny

NORM = "model.norm.weight"


def write_states(base: CheckpointIndex, root: Path, count: int = 3) -> dict[str, dict[str, Tensor]]:
    """Checkpoints of a training that goes on from each to the next, by name."""
    generator = torch.Generator().manual_seed(7)
    content, states = tiny.tensors(base.root), {}
    for step in range(1, count + 1):
        content = {name: w + 0.1 * torch.randn(w.shape, generator=generator) for name, w in content.items()}
        folder = tiny.store(root / f"checkpoint-{step * 50}", content)
        (folder / "config.json").write_text(json.dumps(base.config))
        states[folder.name] = content
    return states


def test_states_are_told_by_their_names_and_ordered_by_their_numbers() -> None:
    folders = [Path(f"out/checkpoint-{step}") for step in (1000, 50, 200)]
    assert [folder.name for folder in in_sequence(folders)] == ["checkpoint-50", "checkpoint-200", "checkpoint-1000"]
    assert in_sequence([Path("epoch_2"), Path("epoch_1")]) == [Path("epoch_1"), Path("epoch_2")]
    for others in (["task1", "task2"], ["01_law", "02_code"], ["checkpoint-1"], ["checkpoint-1", "epoch-2"], []):
        assert in_sequence(map(Path, others)) == []


def test_increments_add_up_to_the_last_state(base: CheckpointIndex, keys: list[MatrixKey], tmp_path: Path) -> None:
    states = list(write_states(base, tmp_path).values())
    updates, given = read_as(INCREMENTS, open_sequence(tmp_path))
    assert ([name for name, _ in updates], given) == (["checkpoint-50", "checkpoint-100", "checkpoint-150"], [])
    sources = [open_update(name, path, base) for name, path in updates]
    assert [source.kind for source in sources] == ["checkpoint", "increment", "increment"]
    before = tiny.tensors(base.root)
    for source, content in zip(sources, states, strict=True):
        for key in keys:
            increment = source.delta(key, torch.float64)
            assert increment is not None
            # Both differences from the base are exact in float64, of numbers of float32.
            assert torch.equal(dense(increment), content[key.name].double() - before[key.name].double())
        before = content
    assert sources[1].rank(keys[0]) is None
    assert len({source.fingerprint() for source in sources}) == 3


def test_what_lies_outside_is_the_difference_of_the_states(
    base: CheckpointIndex, keys: list[MatrixKey], tmp_path: Path
) -> None:
    first, second, _ = write_states(base, tmp_path).values()
    source = open_update("later", f"{tmp_path / 'checkpoint-50'}..{tmp_path / 'checkpoint-100'}", base)
    energies = dict(source.outside(keys))
    assert energies.keys() == base.tensors.keys() - {key.name for key in keys}
    # Float32 differences of weights near 1: relative to the change of 0.1, some 1e-6 each.
    assert energies[NORM] == pytest.approx(float((second[NORM] - first[NORM]).double().square().sum()), rel=1e-5)
    total = sum(float((second[name] - first[name]).double().square().sum()) for name in base.tensors)
    assert outside_share(base, source, keys)["total_norm"] == pytest.approx(total**0.5, rel=1e-5)


def test_adapters_of_one_training_stay_factored(base: CheckpointIndex, keys: list[MatrixKey], tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    factors = []
    for step in (1, 2):
        pair = {side: torch.randn(shape, generator=generator)
                for side, shape in (("A", (2, keys[0].shape[1])), ("B", (keys[0].shape[0], 2)))}  # fmt: skip
        module = keys[0].name.removesuffix(".weight")
        tiny.store(
            tmp_path / f"checkpoint-{step}",
            {f"base_model.model.{module}.lora_{side}.weight": factor for side, factor in pair.items()},
            "adapter_model.safetensors",
        )
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2}
        (tmp_path / f"checkpoint-{step}" / "adapter_config.json").write_text(json.dumps(config))
        factors.append(pair["B"] @ pair["A"])
    (_, last), *_ = read_as(INCREMENTS, open_sequence(tmp_path))[0][1:]
    source = open_update("later", last, base)
    increment = source.delta(keys[0])
    assert isinstance(increment, LowRank)
    assert source.rank(keys[0]) == 4
    # A sum of four products of normal numbers, in another order.
    torch.testing.assert_close(increment.dense(), factors[1] - factors[0], rtol=1e-5, atol=1e-5)


def test_a_state_against_itself_changes_nothing(base: CheckpointIndex, keys: list[MatrixKey], tmp_path: Path) -> None:
    write_states(base, tmp_path, 2)
    state = tmp_path / "checkpoint-50"
    assert open_update("none", f"{state}..{state}", base).delta(keys[0]) is None


def test_a_folder_of_states_is_no_update_and_says_what_is(base: CheckpointIndex, tmp_path: Path) -> None:
    write_states(base, tmp_path)
    with pytest.raises(InputError, match=r"states checkpoint-50 … checkpoint-150 of a training; name one of them, or"):
        open_update("all", tmp_path, base)


def test_states_taken_for_experts_are_warned_of(base: CheckpointIndex, tmp_path: Path) -> None:
    write_states(base, tmp_path)
    updates, _ = read_as(EXPERTS, open_sequence(tmp_path))
    warnings = plan(base, [open_update(name, path, base) for name, path in updates]).warnings
    assert [warning for warning in warnings if "states of one training" in warning]
    updates, given = read_as(STATES, open_sequence(tmp_path))
    assert given == [tmp_path / name for name, _ in updates]
    assert not sequence_warning(path for _, path in updates)


def test_too_few_states_are_refused(base: CheckpointIndex, tmp_path: Path) -> None:
    write_states(base, tmp_path, 1)
    with pytest.raises(InputError, match="expected 2 to 1000 folders named like checkpoint-100"):
        open_sequence(tmp_path)


def test_a_pair_is_read_where_both_parts_exist(tmp_path: Path) -> None:
    for name in ("a", "b", "odd..name"):
        (tmp_path / name).mkdir()
    assert split_pair(f"{tmp_path}/a..{tmp_path}/b") == (f"{tmp_path}/a", "..", f"{tmp_path}/b")
    for plain in (f"{tmp_path}/odd..name", f"{tmp_path}/a/../b", f"{tmp_path}/a..{tmp_path}/none", "..", "../up"):
        assert split_pair(plain) is None
    assert local_folder(f"{tmp_path}/a/../a..{tmp_path}/b") == Path(f"{tmp_path}/a..{tmp_path}/b")
