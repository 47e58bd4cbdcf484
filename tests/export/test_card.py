"""What stands beside an exported checkpoint: the card's front matter, tokenizer, chat template, generation config."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoTokenizer, GenerationConfig

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.cli import main
from gcwm_viz.continual.store import RunStore
from gcwm_viz.export.checkpoint import export_step
from tests.checkpoints import tiny
from tests.export import runs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A run over a base that lies in the cache of the hub."""
    root = tmp_path_factory.mktemp("card")
    index = runs.base(root, "llama")
    snapshot = root / "models--some--llama-tiny" / "snapshots" / "abc123"
    shutil.copytree(index.root, snapshot)
    index = CheckpointIndex.open(snapshot)
    return runs.finished(index, runs.experts(index, root, torch.float32, scale=0.0002), root / "run")


def front(folder: Path) -> Any:
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


def test_the_front_matter_names_base_and_licence(run: RunStore, tmp_path: Path) -> None:
    assert front(export_step(run, 2, tmp_path / "out")) == {
        "base_model": "some/llama-tiny",
        "base_model_relation": "merge",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["merge", "gcwm"],
        "license": "apache-2.0",
        "language": ["en"],
    }


def test_updates_of_the_hub_are_named_up_to_the_step(tmp_path: Path) -> None:
    index = runs.base(tmp_path, "llama")
    listed = []
    for name, path in runs.experts(index, tmp_path, torch.float32, scale=0.0002):
        snapshot = tmp_path / f"models--some--{name}" / "snapshots" / "abc123"
        shutil.copytree(path, snapshot)
        listed.append((name, snapshot))
    run = runs.finished(index, listed, tmp_path / "run")
    first, both = (front(export_step(run, step, tmp_path / str(step)))["base_model"] for step in (1, 2))
    assert first == [str(index.root), "some/one"]
    assert both == [str(index.root), "some/one", "some/two"]


@pytest.mark.parametrize(
    "card",
    ["", "---\nlicense: [", "---\n- a\n---\n", "---\nlicense: {a: 1}\n---\n", "\xff", "---\nlicense: 'a\x00'\n---\n"],
)
def test_a_base_card_that_states_nothing_readable(tmp_path: Path, card: str) -> None:
    index = runs.base(tmp_path, "llama")
    (index.root / "README.md").write_bytes(card.encode("latin-1"))
    run = runs.finished(index, runs.experts(index, tmp_path, torch.float32), tmp_path / "run")
    found = front(export_step(run, 1, tmp_path / "out"))
    assert "license" not in found
    assert found["base_model"] == str(index.root)


def test_the_settings_stand_verbatim_in_the_card(run: RunStore, tmp_path: Path) -> None:
    text = (export_step(run, 2, tmp_path / "out") / "README.md").read_text()
    block = yaml.safe_load("".join(line[4:] + "\n" for line in text.splitlines() if line.startswith("    ")))
    assert block["settings"] == json.loads(json.dumps(run.settings.to_dict()))
    assert [update["name"] for update in block["updates"]] == ["one", "two"]


def test_tokenizer_template_and_generation_go_along(run: RunStore, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["export", str(run.path), "--out", str(out)]) == 0  # the last step by default
    base = run.file.base.path
    tokenizer, original = (AutoTokenizer.from_pretrained(folder) for folder in (out, base))
    assert tokenizer.chat_template == original.chat_template == runs.CHAT
    assert tokenizer("the cat sat")["input_ids"] == original("the cat sat")["input_ids"]
    assert GenerationConfig.from_pretrained(out).to_dict() == GenerationConfig.from_pretrained(base).to_dict()
    assert "step: 2" in (out / "README.md").read_text()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rounding_of_the_merged_update_is_said(
    run: RunStore, tmp_path: Path, dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: what the file holds against base + S in float32."""
    out = tmp_path / "out"
    assert main(["export", str(run.path), "--step", "2", "--dtype", dtype, "--out", str(out)]) == 0
    error = energy = 0.0
    base, merged = tiny.tensors(run.file.base.path), tiny.tensors(out)
    for place, key in enumerate(run.keys):
        state = run.state(place, 2)
        error += float((merged[key.name].double() - (base[key.name] + state).double()).square().sum())
        energy += float(state.double().square().sum())
    sentence = f"Rounding of the weights is {(error / energy) ** 0.5:.1%} of the merged update."
    said = dtype == "bfloat16"
    assert ((error / energy) ** 0.5 > 0.01) == said
    assert (sentence in (out / "README.md").read_text()) == (sentence in capsys.readouterr().out) == said
