"""An exported checkpoint and the merged state in memory give the same logits, bit for bit, at the same precision."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gcwm_viz.export.checkpoint import export_step
from gcwm_viz.probes.merged import MergedModel
from tests.checkpoints import tiny
from tests.export import runs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_logits_are_bit_identical(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    index = runs.base(tmp_path, name, dtype)
    coarse: Any = {"rank": 4, "analysis_rank": 4, "barycenter_tol": 1e-3}  # any state will do
    store = runs.finished(index, runs.experts(index, tmp_path, dtype), tmp_path / "run", **coarse)
    model = MergedModel(index, store.keys, runs.CPU, dtype)
    tokens = torch.arange(3, 15).reshape(2, 6)
    with torch.no_grad():
        before = model.model(tokens).logits
        for step in (1, 2):
            out = export_step(store, step, tmp_path / f"step{step}")
            loaded = AutoModelForCausalLM.from_pretrained(out, dtype="auto").eval()
            assert loaded.dtype == dtype
            model.set_updates([store.state(place, step) for place in range(len(store.keys))])
            assert torch.equal(loaded(tokens).logits, model.model(tokens).logits)
            assert not torch.equal(loaded(tokens).logits, before)
        # The other way round: a step's state is gone when another one is set.
        model.set_updates([None] * len(store.keys))
        assert torch.equal(model.model(tokens).logits, before)
    assert AutoTokenizer.from_pretrained(out).chat_template == runs.CHAT
    assert (out / "generation_config.json").exists()


def test_a_base_saved_without_its_head(tmp_path: Path) -> None:
    """GPT-2's published checkpoint names h.0.… what transformers calls transformer.h.0.…"""
    index = runs.base(tmp_path, "gpt2")
    content = {name.removeprefix("transformer."): t for name, t in tiny.tensors(index.root).items()}
    tiny.store(index.root, content)
    index = type(index).open(index.root)
    store = runs.finished(index, runs.experts(index, tmp_path, torch.float32), tmp_path / "run")
    assert store.keys[0].name.startswith("h.0.")
    model = MergedModel(index, store.keys, runs.CPU, store.probe_dtype)
    model.set_updates([store.state(place, 2) for place in range(len(store.keys))])
    loaded = AutoModelForCausalLM.from_pretrained(export_step(store, 2, tmp_path / "out")).eval()
    tokens = torch.arange(6)[None]
    with torch.no_grad():
        assert torch.equal(loaded(tokens).logits, model.model(tokens).logits)
