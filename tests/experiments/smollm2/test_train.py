"""Training on a tiny model: it learns, it is one adapter at a time, a second call goes on, the base stays."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from gcwm_viz.checkpoints.adapters import Adapter
from gcwm_viz.errors import InputError
from gcwm_viz.experiments.corpus import IGNORED
from gcwm_viz.experiments.smollm2 import build as building
from gcwm_viz.experiments.smollm2.bundle import locate
from gcwm_viz.experiments.smollm2.data import Choice, ExampleTask
from gcwm_viz.experiments.smollm2.train import LoraSettings, Trainer, chat_corpus
from gcwm_viz.experiments.training import answer_loss
from gcwm_viz.probes.batches import SHARED_TOKENS
from tests.experiments.smollm2 import tiny

pytest.importorskip("peft")
PAIRS = [("hat", "a"), ("cat", "b"), ("mat", "c"), ("rat", "d")]
QUICK = LoraSettings(steps=80, batch_size=4, lr=2e-2, warmup=2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def trainer(base: Path) -> Trainer:
    return Trainer(base, torch.device("cpu"))


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def task(name: str, shift: int) -> ExampleTask:
    train = tuple((prompt, PAIRS[(i + shift) % 4][1]) for i, (prompt, _) in enumerate(PAIRS))
    choice = (Choice("hat", ("a", "b"), 0),)
    return ExampleTask(name=name, train=train, dev=train[:2], test=train[2:], dev_choices=choice, test_choices=choice)


TASKS = {"one": task("one", 0), "two": task("two", 1), "three": task("three", 2)}


def build(base: Path, out: Path, **changed: Any) -> list[str]:
    settings = LoraSettings(batch_size=4, lr=2e-2, warmup=1)
    said: list[str] = []
    building.build(base, out, **{"settings": settings, "tasks": TASKS, "steps": 6, "report": said.append, **changed})
    return said


def test_the_loss_is_that_of_the_answers_alone(trainer: Trainer) -> None:
    """Against the model's own loss with everything but answer and closing token masked."""
    corpus = chat_corpus(trainer.tokenizer, [*PAIRS, ("a longer prompt", "ab")])
    ids, labels = corpus.sample(8, torch.Generator().manual_seed(0))
    model = tiny.model()
    expected = model(input_ids=ids, labels=labels).loss
    torch.testing.assert_close(answer_loss(model, ids, labels, labelled_only=True), expected)
    ends = [trainer.tokenizer.decode(row[row != IGNORED]) for row in labels]
    assert set(ends) <= {f"{answer}<|im_end|>" for answer in ("a", "b", "c", "d", "ab")}


def test_a_shared_beginning_changes_no_gradient(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = chat_corpus(trainer.tokenizer, [("the same long beginning " + prompt, answer) for prompt, answer in PAIRS])
    ids, labels = corpus.sample(8, torch.Generator().manual_seed(0))
    model, lengths = tiny.model(), list[int]()
    model.get_input_embeddings().register_forward_hook(lambda _m, inputs, _o: lengths.append(inputs[0].shape[1]))

    def gradients() -> list[Tensor]:
        model.zero_grad()
        answer_loss(model, ids, labels, labelled_only=True).backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    found = gradients()
    monkeypatch.setattr("gcwm_viz.experiments.training.SHARED_TOKENS", 10**9)
    expected = gradients()
    shared, rest, whole = lengths
    assert shared >= SHARED_TOKENS
    assert shared + rest == whole == ids.shape[1]
    for one, other in zip(found, expected, strict=True):
        # The network's condition is unknown; what a prefix lost would change the first digit.
        assert float((one - other).norm()) <= 1e-3 * float(other.norm())


def test_it_learns_and_leaves_the_base_alone(trainer: Trainer, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in trainer._model.state_dict().items()}
    made = trainer.train(PAIRS, QUICK, tmp_path / "a", seed=1)
    assert made["last_loss"] < 0.3 * made["first_loss"]
    after = trainer._model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    adapter = Adapter.open(tmp_path / "a")
    assert len(adapter.modules) == 2 * 7
    assert {module.scaling for module in adapter.modules.values()} == {4.0}
    assert all(tensor.dtype == torch.float16 for tensor in weights(tmp_path / "a").values())
    config = (tmp_path / "a" / "adapter_config.json").read_text()
    assert str(tmp_path.parent) not in config
    assert json.loads(config)["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_same_seed_same_bytes_and_another_seed_another_start(trainer: Trainer, tmp_path: Path) -> None:
    few = LoraSettings(steps=2, batch_size=2)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        trainer.train(PAIRS, few, tmp_path / name, seed=seed)
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    first, other = (next(t for n, t in sorted(weights(tmp_path / x).items()) if "lora_A" in n) for x in "ac")
    assert abs(torch.cosine_similarity(first.float().flatten(), other.float().flatten(), dim=0)) < 0.5


def test_going_on_starts_from_the_adapter_as_stored(trainer: Trainer, tmp_path: Path) -> None:
    trainer.train(PAIRS, QUICK, tmp_path / "first", seed=1)
    still = LoraSettings(steps=1, batch_size=4, lr=0.0, warmup=1)
    trainer.train(PAIRS, still, tmp_path / "second", seed=3, start=tmp_path / "first")
    first, second = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_diverging_training_writes_nothing(trainer: Trainer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="diverged at step"):
        trainer.train(PAIRS, LoraSettings(steps=20, lr=1e30, warmup=1, batch_size=2), tmp_path / "a", seed=1)
    assert list(tmp_path.iterdir()) == []


def test_build_is_whole_and_goes_on_where_it_stopped(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = build(base, out)
    whole = locate(out)
    assert list(whole.updates) == ["one", "two", "three"]
    assert sorted(whole.sft) == [1, 2, 3]
    assert whole.sft[1] == whole.updates["one"]
    assert whole.recipe["settings"]["steps"] == {"one": 6, "two": 6, "three": 6}
    assert whole.recipe["settings"]["sequence_steps"] == {"two": 6, "three": 6}
    points = {(row["model"], row["step"]) for row in whole.recipe["scores"]}
    assert points == {("base", 0), *(("expert", i) for i in (1, 2, 3)), *(("step", i) for i in (1, 2, 3))}
    assert {row["metric"] for row in whole.recipe["scores"]} == {"em", "nll", "acc"}
    assert not torch.equal(*(next(iter(weights(whole.sft[step]).values())) for step in (2, 3)))

    kept = {p: p.stat().st_mtime_ns for p in out.rglob("adapter_model.safetensors")}
    lost = [out / "adapters" / "02_two", out / "sft" / "step_3"]
    before = [(folder / "adapter_model.safetensors").read_bytes() for folder in lost]
    for folder in lost:
        shutil.rmtree(folder)
    (out / "recipe.json").unlink()
    again = build(base, out)
    assert sum(text.startswith("training ") for text in said) == 5
    assert sum(text.startswith("training ") for text in again) == 2
    assert [(folder / "adapter_model.safetensors").read_bytes() for folder in lost] == before
    for path, when in kept.items():
        assert path.parent in lost or path.stat().st_mtime_ns == when


def test_a_training_of_other_settings_is_not_gone_on_with(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    building._start(out, {"seed": 0}, TASKS)
    with pytest.raises(InputError, match=r"plan\.json: this training has other settings"):
        build(base, out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="expected a new folder or a training to go on with"):
        build(base, tmp_path / "full")
