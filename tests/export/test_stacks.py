"""Runs over models whose experts are stacked, from the inputs to the exported checkpoint, probes and attribution."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.cli import main
from gcwm_viz.continual.run_file import RunFile
from gcwm_viz.export.checkpoint import export_step
from gcwm_viz.probes.merged import MergedModel
from gcwm_viz.runs.tables import open_run
from gcwm_viz.updates.matrices import target_matrices
from tests.checkpoints import tiny
from tests.export import runs
from tests.probes.models import bpe_tokenizer

CASES = [(name, False) for name in ("gpt-oss", "llama4", "granite-moe", "jetmoe", "deepseek-v3")]
CASES += [(name, True) for name in ("qwen3-moe", "mixtral", "deepseek-v3")]


def stacked(root: Path, name: str, seed: int, as_in_memory: bool) -> CheckpointIndex:
    model = tiny.model(name, seed).to(torch.bfloat16)
    folder = tiny.save(model, root, save_original_format=not as_in_memory)
    bpe_tokenizer().save_pretrained(folder)
    return CheckpointIndex.open(folder)


@pytest.mark.parametrize(("name", "as_in_memory"), CASES)
def test_one_update_at_full_strength_is_the_expert(name: str, as_in_memory: bool, tmp_path: Path) -> None:
    """θ_pre + (θ − θ_pre) of bfloat16 numbers, added in float32 and rounded again, is θ in every bit."""
    base = stacked(tmp_path / "base", name, 0, as_in_memory)
    expert = stacked(tmp_path / "expert", name, 1, as_in_memory)
    store = runs.finished(base, [("one", expert.root)], tmp_path / "run", "task-arithmetic", eta=1.0)
    out = export_step(store, 1, tmp_path / "out")
    found, own, theirs = tiny.tensors(out), tiny.tensors(base.root), tiny.tensors(expert.root)
    targets = {key.name.partition("[")[0] for key in store.keys}
    assert {tensor for tensor in own if own[tensor].ndim == 3} <= targets
    assert found.keys() == own.keys()
    for tensor, value in found.items():
        assert torch.equal(value, (theirs if tensor in targets else own)[tensor])

    model = MergedModel(base, store.keys, runs.CPU, torch.bfloat16)
    assert model.weights is not None
    model.set_updates([store.state(place, 1) for place in range(len(store.keys))])
    tokens = torch.arange(3, 15).reshape(2, 6)
    loaded = AutoModelForCausalLM.from_pretrained(out, dtype="auto").eval()
    with torch.no_grad():
        assert torch.equal(loaded(tokens).logits, model.model(tokens).logits)

    read = RunFile.read(store.path)
    assert list(read.matrices) == target_matrices(base)
    written = (store.path / "run.json").read_text()
    assert json.loads(json.dumps(read.to_json())) == json.loads(written)


def test_probes_and_attribution(tmp_path: Path) -> None:
    """Every expert is a row of the tables: its family, and its share of the change of the loss."""
    tokenizer = bpe_tokenizer()
    config = tiny.CONFIGS["gpt-oss"]()
    config.vocab_size = len(tokenizer)
    for name, seed in (("base", 0), ("one", 1), ("two", 2)):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config)
        tokenizer.save_pretrained(tiny.save(model, tmp_path / name))
    (tmp_path / "probes" / "dev").mkdir(parents=True)
    (tmp_path / "probes" / "dev" / "one.jsonl").write_text(json.dumps({"prompt": "the cat", "answer": " sat"}) + "\n")
    updates = [part for name in ("one", "two") for part in ("--update", f"{name}={tmp_path / name}")]
    run = tmp_path / "run"
    inputs = ["--base", str(tmp_path / "base"), *updates, "--probes", str(tmp_path / "probes")]
    assert main(["run", *inputs, "--eta", "0.5", "--workers", "1", "--out", str(run)]) == 0
    assert main(["attribute", str(run), "--workers", "1"]) == 0
    tables = open_run(run).tables
    families = {f"experts.{expert}.{name}" for expert in range(3) for name in ("gate_up_proj", "down_proj")}
    assert families < set(tables["matrices"]["family"])
    rows = tables["attribution"]
    assert families < set(rows["family"])
    assert rows["value"].notna().all()
    assert (tables["scores"]["metric"] == "nll").any()
