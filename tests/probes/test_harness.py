"""lm-evaluation-harness itself, on a task defined here: YAML and local data, no network, a tiny random model."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from gcwm_viz.cli import main
from gcwm_viz.errors import InputError
from gcwm_viz.probes import harness
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.tasks import ChoiceTask, HarnessTask, Style, TextTask
from tests.probes.models import TEXT, bpe_tokenizer, tiny_llama
from tests.torture.small import write_inputs

QUESTIONS = ["the cat", "1 + 2 =", "the capital of the", "a hat and", "that", "the mat of", "at the", "a cat, a"]
CHOICES = ["sat on the mat", "3", "land"]
TASK = """
task: tiny_choices
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
TEXTS = """
task: tiny_texts
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: word_perplexity}}, {{metric: bits_per_byte}}]
"""
OTHER = """
task: tiny_other
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{{{question}}}}"
doc_to_target: " {{{{choices[0]}}}}"
metric_list: [{{metric: perplexity}}]
"""


def test_without_the_package_the_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lm_eval", None)
    with pytest.raises(InputError, match=r"harness task 'arc_easy': lm-evaluation-harness is not .*; .*\[eval\]"):
        harness.harness_values(HarnessTask("arc_easy"), torch.nn.Linear(1, 1), None)
    harness.check_installed([TextTask("t", "dev", ("one",))])


@pytest.fixture(scope="module")
def llama() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    tokenizer = bpe_tokenizer()
    return tiny_llama(len(tokenizer)), tokenizer


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Own task definitions, where the environment variable names them."""
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed (extra `eval`)")
    tmp_path = tmp_path_factory.mktemp("harness")
    rows = [{"question": q, "choices": CHOICES, "answer": k % 3} for k, q in enumerate(QUESTIONS)]
    (tmp_path / "choices.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXT))
    (tmp_path / "choices.yaml").write_text(TASK.format(file=tmp_path / "choices.jsonl"))
    (tmp_path / "other.yaml").write_text(OTHER.format(file=tmp_path / "choices.jsonl"))
    (tmp_path / "texts.yaml").write_text(TEXTS.format(file=tmp_path / "texts.jsonl"))
    (tmp_path / "gone.yaml").write_text(TASK.format(file=tmp_path / "gone.jsonl").replace("tiny_choices", "tiny_gone"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
        patch.setenv(harness.DEFINITIONS, str(tmp_path))
        yield tmp_path


def by_metric(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["metric"]: row for row in rows}


@pytest.mark.filterwarnings("default")  # the harness's dependencies warn
def test_the_harness_agrees_with_choices_scored_here(
    llama: tuple[LlamaForCausalLM, PreTrainedTokenizerFast], tasks: Path
) -> None:
    model, tokenizer = llama
    found = by_metric(BehaviourProbe(tokenizer, [HarnessTask("tiny_choices")]).score(model))
    style = Style(scoring="text")
    answers = tuple(k % 3 for k in range(len(QUESTIONS)))
    own = ChoiceTask("own", "test", tuple(QUESTIONS), (tuple(CHOICES),) * len(QUESTIONS), answers, style=style)
    (values,) = BehaviourProbe(tokenizer, [own]).measure(model)
    assert found.keys() == {"acc", "acc_norm"}
    assert 0 < found["acc_norm"]["value"] < 1
    assert found["acc_norm"]["value"] == float(values.metrics["acc"].mean())
    assert found["acc"] == {"task": "tiny_choices", "split": "test", "metric": "acc", "n": 8} | {
        name: found["acc"][name] for name in ("value", "se")
    }


@pytest.mark.filterwarnings("default")
def test_limits_and_the_harness_own_means(llama: tuple[LlamaForCausalLM, PreTrainedTokenizerFast], tasks: Path) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = llama
    manager = harness._definitions(str(tasks))
    names = ["tiny_choices", "tiny_texts"]
    theirs = simple_evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer), tasks=names, task_manager=manager, limit=4, bootstrap_iters=0
    )["results"]
    ours = by_metric(BehaviourProbe(tokenizer, [HarnessTask(name, "dev", 4) for name in names]).score(model))
    assert {row["n"] for row in ours.values()} == {4}
    assert {row["split"] for row in ours.values()} == {"dev"}
    assert ours["acc"]["value"] == theirs["tiny_choices"]["acc,none"]
    assert ours["acc_norm"]["value"] == theirs["tiny_choices"]["acc_norm,none"]
    assert ours["bpb"]["value"] == pytest.approx(theirs["tiny_texts"]["bits_per_byte,none"], rel=1e-6)


@pytest.mark.filterwarnings("default")
def test_tasks_that_cannot_be_scored_are_named(
    llama: tuple[LlamaForCausalLM, PreTrainedTokenizerFast], tasks: Path
) -> None:
    model, tokenizer = llama
    with pytest.raises(InputError, match=r"harness task 'nonsense': it is no task there"):
        BehaviourProbe(tokenizer, [HarnessTask("nonsense")]).score(model)
    with pytest.raises(InputError, match=r"harness task 'tiny_other' measures perplexity; expected one of exact_match"):
        BehaviourProbe(tokenizer, [HarnessTask("tiny_other")]).score(model)
    with pytest.raises(InputError, match=r"harness task 'tiny_gone' cannot be run \(FileNotFoundError"):
        BehaviourProbe(tokenizer, [HarnessTask("tiny_gone")]).score(model)


@pytest.mark.filterwarnings("default")
def test_beside_other_tasks_in_their_order(
    llama: tuple[LlamaForCausalLM, PreTrainedTokenizerFast], tasks: Path
) -> None:
    model, tokenizer = llama
    listed: list[Any] = [
        TextTask("a", "dev", tuple(TEXT)),
        HarnessTask("tiny_choices"),
        TextTask("b", "dev", tuple(TEXT[:2])),
    ]
    rows = BehaviourProbe(tokenizer, listed).score(model)
    assert list(dict.fromkeys(row["task"] for row in rows)) == ["a", "tiny_choices", "b"]


@pytest.mark.filterwarnings("default")
def test_an_unknown_harness_task_ends_a_run_before_it_begins(
    tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write_inputs(tmp_path)
    (tmp_path / "probes" / "probes.json").write_text(json.dumps({"lm_eval": {"tasks": ["no_such_task_anywhere"]}}))
    assert main(["run", *arguments, "--out", str(tmp_path / "run")]) == 2
    assert "harness task 'no_such_task_anywhere': it is no task there" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
