"""An update at a strength is the update whose files hold so much of Δ, in every form and wherever it is read."""

import hashlib
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import LowRank, dense
from gcwm_viz.updates.chain import chain_note
from gcwm_viz.updates.matrices import MatrixKey
from gcwm_viz.updates.outside import outside_share
from gcwm_viz.updates.pairing import plan
from gcwm_viz.updates.source import UpdateSource
from gcwm_viz.updates.sources import open_update
from tests.checkpoints import tiny

S = 0.3
KINDS = ("delta", "checkpoint", "adapter", "checkpoint+adapter")


@pytest.fixture(scope="module")
def folders(base: CheckpointIndex, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An update of each kind; all but the adapter change tensors outside the target matrices too."""
    root = tmp_path_factory.mktemp("updates")
    delta = tiny.store(root / "delta", changes(base, 1), gcwm_viz="update")
    checkpoint = tiny.store(
        root / "checkpoint", {name: tensor + changes(base, 2)[name] for name, tensor in tiny.tensors(base.root).items()}
    )
    # One matrix is stored whole, and the embeddings are adapted: every form of an adapter.
    modules: dict[str, Any] = {
        "target_modules": ["q_proj", "embed_tokens"],
        "modules_to_save": ["down_proj"],
        "lora_alpha": 3,
    }
    adapter, _, _ = tiny.lora("qwen3", root / "adapter", r=2, **modules)
    stacked = f"{checkpoint}+{adapter}"
    return dict(zip(KINDS, map(str, (delta, checkpoint, adapter, stacked)), strict=True))


def changes(base: CheckpointIndex, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.1 * torch.randn(info.shape, generator=generator) for name, info in base.tensors.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_everything_that_is_read_is_scaled_once(
    base: CheckpointIndex, keys: list[MatrixKey], folders: dict[str, str], kind: str
) -> None:
    whole, part = open_update("x", folders[kind], base), open_update("x", folders[kind], base, S)
    assert (whole.kind, whole.strength, part.strength) == (kind, 1.0, S)
    assert [key.name for key in part.touched(keys)] == [key.name for key in whole.touched(keys)]
    for key in whole.touched(keys):
        full: Any = whole.delta(key)
        less: Any = part.delta(key)
        if isinstance(full, LowRank):
            assert torch.equal(less.left_or, S * full.left_or)
            assert torch.equal(less.right_ri, full.right_ri)
        else:
            assert torch.equal(less, S * full)
    names = whole.outside_names(keys)
    assert part.outside_names(keys) == names
    for name in names:
        assert torch.equal(part.outside_change(name), S * whole.outside_change(name))
    energies = dict(whole.outside(keys))
    assert dict(part.outside(keys)) == pytest.approx({name: S**2 * value for name, value in energies.items()})
    assert energies
    at_one, at_s = outside_share(base, whole, keys), outside_share(base, part, keys)
    for name, value in at_one.items():
        expected = S * value if name.endswith("_norm") else value
        assert at_s[name] == pytest.approx(expected, rel=1e-6, nan_ok=True), name


def test_rounding_is_a_share_of_the_update_at_any_strength(
    base: CheckpointIndex, keys: list[MatrixKey], tmp_path: Path
) -> None:
    moved = {name: (tensor + 0.1).bfloat16() for name, tensor in tiny.tensors(base.root).items()}
    folder = tiny.store(tmp_path / "half", moved)
    shares = [outside_share(base, open_update("x", folder, base, s), keys)["rounding"] for s in (1.0, S)]
    assert 0 < shares[0] == pytest.approx(shares[1])


def test_it_is_the_update_whose_tensors_were_multiplied(
    base: CheckpointIndex, keys: list[MatrixKey], folders: dict[str, str], tmp_path: Path
) -> None:
    """Bit by bit: both multiply in float32. Of an adapter that stores factors alone, the left one is multiplied; PEFT's
    scaling, a power of two here, does not round."""
    scaled = {name: S * tensor for name, tensor in tiny.tensors(Path(folders["delta"])).items()}
    less = tiny.store(tmp_path / "delta", scaled, gcwm_viz="update")
    adapter, _, _ = tiny.lora("qwen3", tmp_path / "adapter", r=2, lora_alpha=4, target_modules=["q_proj"])
    factors = {n: t * (S if "lora_B" in n else 1) for n, t in tiny.tensors(adapter).items()}
    thin = tiny.store(tmp_path / "thin", factors, "adapter_model.safetensors")
    (thin / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    for given, made in ((folders["delta"], less), (adapter, thin)):
        ours, theirs = open_update("x", given, base, S), open_update("x", made, base)
        for key in theirs.touched(keys):
            left: Any = ours.delta(key)
            right: Any = theirs.delta(key)
            assert type(left) is type(right)
            assert torch.equal(dense(left), dense(right))
        assert dict(ours.outside(keys)) == pytest.approx(dict(theirs.outside(keys)))


def test_a_strength_is_part_of_the_fingerprint_and_1_is_none(base: CheckpointIndex, folders: dict[str, str]) -> None:
    found = {s: open_update("x", folders["delta"], base, s).fingerprint() for s in (1.0, 0.5, S)}
    assert len(set(found.values())) == 3
    content = CheckpointIndex.open(folders["delta"]).fingerprint()
    assert found[1.0] == open_update("x", folders["delta"], base).fingerprint()
    assert found[1.0] == hashlib.sha256(f"delta:{content}".encode()).hexdigest()
    assert (
        open_update("x", folders["delta"], base, 2).fingerprint()
        == open_update("x", folders["delta"], base, 2.0).fingerprint()
    )


@pytest.mark.parametrize("value", [0, -0.5, 10.5, math.nan, math.inf, True, "half", None])
def test_what_is_no_strength(base: CheckpointIndex, folders: dict[str, str], value: Any) -> None:
    with pytest.raises(InputError, match="update 'x': expected its strength as a number above 0 and at most 10, found"):
        open_update("x", folders["delta"], base, value)


def test_a_chain_is_one_at_any_strength(base: CheckpointIndex, tmp_path: Path) -> None:
    first, second = changes(base, 4), changes(base, 5)
    whole = tiny.store(tmp_path / "a", first, gcwm_viz="update")
    later = tiny.store(tmp_path / "b", {n: first[n] + second[n] for n in first}, gcwm_viz="update")
    sources: list[list[UpdateSource]] = [
        [open_update("a", whole, base, s), open_update("b", later, base, t)] for s, t in ((1.0, 1.0), (2.0, 0.2))
    ]
    notes = [chain_note(base, pair) for pair in sources]
    assert notes[0].startswith("each seems to have been trained on from the one before: a → b")
    assert notes[0] == notes[1]


def test_an_overflow_is_named(base: CheckpointIndex, keys: list[MatrixKey], tmp_path: Path) -> None:
    folder = tiny.store(tmp_path / "x", {keys[0].name: torch.full(keys[0].stored_shape, 1e38)}, gcwm_viz="update")
    assert open_update("x", folder, base, 2.0).delta(keys[0]) is not None
    with pytest.raises(InputError, match="the update of"):
        open_update("x", folder, base, 10.0).delta(keys[0])


def test_the_pairing_says_it(base: CheckpointIndex, folders: dict[str, str]) -> None:
    sources = [open_update(kind, folders[kind], base, s) for kind, s in (("delta", S), ("adapter", 1.0))]
    assert [row["strength"] for row in plan(base, sources).coverage] == [S, 1.0]
