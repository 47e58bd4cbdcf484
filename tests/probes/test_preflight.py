"""What is wrong with probes is told before anything is merged, and what scoring takes is estimated and kept to."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel

from gcwm_viz.checkpoints.architecture import check_depth
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.cli import main
from gcwm_viz.continual.store import RunStore
from gcwm_viz.engines import local
from gcwm_viz.engines.engine import Worker
from gcwm_viz.engines.local import LocalEngine
from gcwm_viz.errors import InputError
from gcwm_viz.probes.evaluate import evaluate
from gcwm_viz.probes.harness import BATCH
from gcwm_viz.probes.loading import load_model
from gcwm_viz.probes.preflight import HARNESS_TOKENS, preflight
from gcwm_viz.probes.stored import checkpoints
from tests.probes.models import bpe_tokenizer
from tests.torture.small import NAMES, write_inputs, write_lines

CPU = torch.device("cpu")


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    return write_inputs(tmp_path)


def probes_of(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "dev").mkdir(parents=True)
    write_lines(folder / "dev" / "t.jsonl", rows)
    return folder


def test_it_counts_what_will_be_scored(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = preflight(CheckpointIndex.open(tmp_path / "base"), tmp_path / "probes")
    asked = [(row["task"], row["split"], row["kind"], row["examples"]) for row in found.tasks]
    expected = [(name, split, "prompts", 6) for split in ("dev", "test") for name in sorted(NAMES)]
    assert asked == [*expected, ("parity", "", "labelled texts", 20)]
    assert main(["check", *arguments]) == 0
    said = capsys.readouterr().out
    assert "probes: dev: first (6 prompts), second (6 prompts), third (6 prompts); test: first" in said
    assert main(["check", *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["probe_memory_bytes"] == found.memory_bytes


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "a" * 5000, "answer": "b"}], "example 1: expected at most"),
        ([{"prompt": "a"}], 'expected "answer"'),
    ],
)
def test_a_fault_of_the_probes_ends_a_run_before_it_begins(
    arguments: list[str], tmp_path: Path, rows: list[dict[str, str]], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    probes = probes_of(tmp_path / "other", rows)
    given = [*arguments[: arguments.index("--probes")], "--probes", str(probes), "--device", "cpu"]
    for command in (["check"], ["run", "--out", str(tmp_path / "run")]):
        assert main([*command, *given]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_template_that_raises_ends_a_run_before_it_begins(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "base" / "tokenizer_config.json"
    broken = {"chat_template": "{{ raise_exception('no such role') }}"}
    config.write_text(json.dumps(json.loads(config.read_text()) | broken))
    assert main(["run", *arguments, "--out", str(tmp_path / "run")]) == 2
    assert "the chat template of the tokenizer fails (TemplateError: no such role)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def headless(folder: Path) -> CheckpointIndex:
    """A decoder saved without its head, whose embeddings are not tied to one."""
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=False,
    )
    LlamaModel(config).save_pretrained(folder)
    bpe_tokenizer().save_pretrained(folder)
    return CheckpointIndex.open(folder)


def test_a_base_without_its_head_is_not_scored_with_a_random_one(tmp_path: Path) -> None:
    base, probes = headless(tmp_path / "base"), probes_of(tmp_path / "probes", [{"prompt": "the cat", "answer": "sat"}])
    with pytest.raises(InputError, match=r"cannot be scored, expected the weights .* found none for 'lm_head.weight'"):
        preflight(base, probes)
    with pytest.raises(InputError, match=r"found none for 'lm_head.weight', which transformers would fill"):
        load_model(base, torch.float32)


def test_any_other_missing_weight_is_named_when_the_model_is_loaded(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    config = LlamaConfig(
        vocab_size=30, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"found none for 'model.layers.1.mlp.up_proj.weight'"):
        load_model(CheckpointIndex.open(tmp_path), torch.float32)


@pytest.mark.parametrize(
    "config",
    [
        *({"decoder_layers": 10**6}, {"num_layers": 10**6}, {"text_config": {"num_hidden_layers": 10**6}}),
        *({"num_experts": 10**6}, {"text_config": {"num_local_experts": 10**6}}),
    ],
)
def test_no_config_makes_transformers_build_a_million_layers(tmp_path: Path, config: dict[str, Any]) -> None:
    base = CheckpointIndex.open(save_llama(tmp_path, hidden=16, vocabulary=300))
    with pytest.raises(InputError, match=r"(layers|experts) is 1000000, the base has \d+ tensors in all"):
        check_depth(replace(base, config=base.config | config))


def test_harness_tasks_are_counted_by_the_size_of_their_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gcwm_viz.probes.preflight.check_definitions", lambda tasks: None)  # it takes the harness 10 s
    base = CheckpointIndex.open(save_llama(tmp_path / "wide", hidden=16, vocabulary=50_000))
    probes = tmp_path / "harness"
    probes.mkdir()
    (probes / "probes.json").write_text(json.dumps({"lm_eval": {"tasks": ["wikitext"]}}))
    logits = 3 * 4 * BATCH * HARNESS_TOKENS * 50_000
    assert preflight(base, probes).memory_bytes >= 4 * base.parameters + logits


def test_a_kind_of_model_that_writes_no_text_is_refused(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTModel

    folder = tmp_path / "base"
    ViTModel(
        ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    ).save_pretrained(folder)
    bpe_tokenizer().save_pretrained(folder)
    probes = probes_of(tmp_path / "probes", [{"prompt": "the cat", "answer": "sat"}])
    with pytest.raises(InputError, match="transformers cannot load the base"):
        preflight(CheckpointIndex.open(folder), probes)


def test_the_estimate_follows_weights_precision_and_logits(tmp_path: Path) -> None:
    base = CheckpointIndex.open(save_llama(tmp_path / "base", hidden=256, vocabulary=300))
    few = probes_of(tmp_path / "few", [{"prompt": "the cat", "answer": "sat"}])
    single, half = preflight(base, few).memory_bytes, preflight(base, few, "bfloat16").memory_bytes
    assert single >= 4 * base.parameters
    assert 2 * base.parameters <= half < single
    wide = CheckpointIndex.open(save_llama(tmp_path / "wide", hidden=16, vocabulary=50_000))
    text = "the cat sat on the mat " * 4
    texts = probes_of(tmp_path / "texts", [{"text": text}] * 20)
    tokens = 20 * len(bpe_tokenizer()(text)["input_ids"])
    logits = 3 * 4 * tokens * 50_000  # as the model gives them, in float32, and as log-probabilities
    assert 4 * wide.parameters + logits <= preflight(wide, texts).memory_bytes < 4 * wide.parameters + 1.1 * logits
    with pytest.raises(InputError, match="probe dtype must be one of float32, bfloat16, float16, got 'int8'"):
        preflight(base, few, "int8")


def save_llama(folder: Path, hidden: int, vocabulary: int) -> Path:
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    bpe_tokenizer().save_pretrained(folder)
    return folder


def test_workers_that_score_are_as_many_as_memory_holds(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["run", *arguments, "--out", str(tmp_path / "run"), "--workers", "1", "--probe-dtype", "bfloat16"]) == 0
    store = RunStore.open(tmp_path / "run")
    assert store.probe_dtype == torch.bfloat16
    assert store.file.probes is not None
    need = store.file.probes.memory
    assert need is not None
    seen: list[int] = []

    def unordered(
        work: Callable[[Any], Any], items: Any, workers: int, devices: Any, lanes: Any
    ) -> Iterator[tuple[Any, Any]]:
        seen.append(workers)
        return iter(())

    monkeypatch.setattr(local, "unordered", unordered)
    for file in (store.path / "probes").glob("*.json"):
        file.unlink()
    for free, budget in (
        (10 * need, None),
        (2.5 * need, None),
        (1, None),
        (0, None),
        (10 * need, 3 * need),
        (10 * need, 1),
    ):
        monkeypatch.setattr(local, "available_memory", lambda free=free: int(free))
        evaluate(store, LocalEngine(CPU, 8), memory_budget=budget)
    assert seen == [8, 2, 1, 1, 3, 1]


def test_a_run_that_keeps_its_last_step_scores_that_one(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["run", *arguments, "--set", "keep=last", "--workers", "1", "--out", str(out)]) == 0
    assert main(["run", *arguments, "--workers", "1", "--out", str(tmp_path / "all")]) == 0
    last, every = (RunStore.open(path) for path in (out, tmp_path / "all"))
    asked = [checkpoint[:2] for checkpoint in checkpoints(last) if checkpoint[0] != "strength"]
    assert asked == [("base", 0), ("expert", 1), ("expert", 2), ("expert", 3), ("step", 3)]
    for name in ("base-000", "expert-002", "step-003", "strength-001"):
        assert (out / "probes" / f"{name}.json").read_bytes() == (every.path / "probes" / f"{name}.json").read_bytes()
    shutil.rmtree(out / "probes")
    (out / "probes").mkdir()
    assert main(["resume", str(out), "--workers", "1"]) == 0
    capsys.readouterr()
    assert main(["show", str(out)]) == 0
    assert "\n3 " in capsys.readouterr().out


def test_a_worker_computes_in_the_precision_of_the_run(arguments: list[str], tmp_path: Path) -> None:
    from gcwm_viz.probes.evaluate import _Bench

    assert main(["run", *arguments, "--workers", "1", "--out", str(tmp_path / "run"), "--probe-dtype", "float16"]) == 0
    worker = Worker("one", CPU)
    bench = _Bench.of((tmp_path / "run").absolute(), "", worker.device)
    assert {parameter.dtype for parameter in bench.model.model.parameters()} == {torch.float16}
