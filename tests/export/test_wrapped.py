"""A language model inside a vision-language model: scored on text, exported, and written as an adapter."""

import json
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import peft
import pytest
import torch
from transformers import AutoModelForImageTextToText

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual.store import RunStore
from gcwm_viz.export.adapter import export_adapter
from gcwm_viz.export.checkpoint import export_step
from gcwm_viz.probes.live import LiveModel
from gcwm_viz.probes.stored import state_of
from gcwm_viz.runs.inputs import Inputs
from tests.attribution.models import finish, write_probes
from tests.checkpoints import tiny
from tests.export import runs
from tests.probes.models import bpe_tokenizer
from tests.updates.test_towers import model

TOKENS = torch.arange(3, 15).reshape(2, 6)
# Names in memory are the checkpoint's, differ by a prefix, or by the order of components.
NAMES = ["qwen3-vl", "llava", "gemma3-vision"]


@pytest.fixture(scope="module", params=NAMES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CheckpointIndex:
    root, tokenizer = tmp_path_factory.mktemp("wrapped"), bpe_tokenizer()
    wrapped = model(request.param)
    wrapped.resize_token_embeddings(len(tokenizer))
    tiny.save(wrapped, root / "base")
    tokenizer.save_pretrained(root / "base")
    return CheckpointIndex.open(root / "base")


def experts(base: CheckpointIndex) -> list[tuple[str, Path]]:
    """Two full checkpoints, moved in every tensor."""
    generator = torch.Generator().manual_seed(5)
    listed = []
    for name in ("sums", "names"):
        content = {n: t + 0.05 * torch.randn(t.shape, generator=generator) for n, t in tiny.tensors(base.root).items()}
        folder = tiny.store(base.root.parent / name, content)
        (folder / "config.json").write_text(json.dumps(base.config))
        listed.append((name, folder))
    return listed


@pytest.mark.parametrize("outside", ["keep", "sum"])
def test_what_is_scored_is_what_is_exported(base: CheckpointIndex, outside: str, tmp_path: Path) -> None:
    inputs = Inputs(base=base.root, updates=experts(base))
    store = finish(inputs, tmp_path / "run", "task-arithmetic", outside=outside, eta=0.5)
    live: Any = LiveModel(store, runs.CPU)
    assert live.merged.weights is not None  # each matrix is known in memory, which attribution needs
    loaded = AutoModelForImageTextToText.from_pretrained(export_step(store, 2, tmp_path / "out")).eval()
    live.set(state_of(store, 2))
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=TOKENS).logits, live.model(input_ids=TOKENS).logits)
    changed = {n for n, t in tiny.tensors(tmp_path / "out").items() if not torch.equal(t, tiny.tensors(base.root)[n])}
    assert changed == ({key.name for key in store.keys} if outside == "keep" else base.tensors.keys())


def test_text_probes_score_it(base: CheckpointIndex, tmp_path: Path) -> None:
    inputs = Inputs(base=base.root, updates=experts(base)[:1], probes=write_probes(tmp_path / "probes"))
    store = finish(inputs, tmp_path / "run", "task-arithmetic", outside="sum")
    scores = pd.read_parquet(store.path / "tables" / "scores.parquet")
    assert scores["value"].notna().all()
    assert scores.groupby(["split", "task", "metric"]).size().eq(3).all()  # base, expert, merged


def test_an_adapter_of_full_rank_is_the_merged_model(base: CheckpointIndex, tmp_path: Path) -> None:
    store: RunStore = finish(Inputs(base=base.root, updates=experts(base)), tmp_path / "run", "task-arithmetic")
    export_adapter(store, 2, tmp_path / "lora", 24)
    wrapped = AutoModelForImageTextToText.from_pretrained(base.root)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft asks transformers for a deprecated name
        adapted = peft.PeftModel.from_pretrained(wrapped, str(tmp_path / "lora")).merge_and_unload().eval()
    whole = AutoModelForImageTextToText.from_pretrained(export_step(store, 2, tmp_path / "out")).eval()
    with torch.no_grad():
        # Products of float32 factors of rank 16, through two blocks.
        torch.testing.assert_close(
            adapted(input_ids=TOKENS).logits, whole(input_ids=TOKENS).logits, rtol=1e-3, atol=1e-4
        )
