"""SmolLM2's updates trained otherwise than those that ship: other seeds, another rank, full weights, a gentle regime.

    OUT/CASE/probes/{dev,test}/    probe files
    OUT/CASE/NAME/                 the update of a task
    OUT/CASE/sequence/…/NAME/      the states of Seq. SFT by order, every task with as many steps as its expert

Each training appears complete or not at all and is not repeated.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gcwm_viz.checkpoints.atomic import atomic_folder, write_safetensors
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.experiments.draw import Draw, Example, seeded
from gcwm_viz.experiments.smollm2 import bundle, data
from gcwm_viz.experiments.smollm2.build import STEPS, training_seed
from gcwm_viz.experiments.smollm2.train import LoraSettings, Trainer, chat_corpus
from gcwm_viz.experiments.training import TrainSettings, answer_loss, train
from gcwm_viz.updates.matrices import target_matrices
from gcwm_viz.updates.sources import UPDATE_MARK

SHIPPED = "smollm2"
CHOICE = "_choice"
"""The end of the name of a task of choices."""
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A set of updates, one a task. ``steps``: by task. ``layers``: whose weights are trained in full instead of an
    adapter on every layer. ``choices``: every task is also asked as a choice of four, and losses decide instead of
    exact match: the regime in which the base can do the tasks. ``about``: a few words."""

    about: str
    seed: int = 0
    training: TrainSettings = field(default_factory=LoraSettings)
    steps: dict[str, int] = field(default_factory=lambda: dict(STEPS))
    layers: range | None = None
    choices: bool = False


CASES = {
    SHIPPED: Case(about="seed 0"),
    "seed-1": Case(about="seed 1", seed=1),
    "seed-2": Case(about="seed 2", seed=2),
    "gentle": Case(
        about="a tenth of the learning rate, 30 steps",
        training=LoraSettings(lr=3e-4),
        steps=dict.fromkeys(STEPS, 30),
        choices=True,
    ),
    "dense": Case(
        about="full weights of layers 10 to 17",
        training=TrainSettings(steps=1, batch_size=12, lr=3e-4),
        layers=range(10, 18),
    ),
    "rank-16": Case(about="rank 16", training=LoraSettings(rank=16, alpha=64)),
}

ORDERS = (
    ("country", "chemistry", "words", "arithmetic", "python"),
    ("python", "words", "country", "arithmetic", "chemistry"),
    ("arithmetic", "country", "python", "chemistry", "words"),
)


def tasks_of(case: Case) -> dict[str, data.ExampleTask]:
    """The tasks of a case; with ``choices`` every probe is also a choice between answers of its own task."""
    tasks = data.build_tasks(case.seed)
    return {name: _with_choices(task, case.seed) for name, task in tasks.items()} if case.choices else tasks


def _with_choices(task: data.ExampleTask, seed: int) -> data.ExampleTask:
    draw = Draw(seeded(seed, "smollm2 choices", task.name))
    answers = sorted({answer for _, answer in task.train})

    def choice(pair: Example) -> data.Choice:
        others = draw.shuffled([answer for answer in answers if answer != pair[1]])[:3]
        choices = tuple(draw.shuffled([pair[1], *others]))
        return data.Choice(pair[0], choices, choices.index(pair[1]))

    dev, test = (tuple(map(choice, pairs)) for pairs in (task.dev[: data.DEV_CHOICES], task.test[: data.TEST_CHOICES]))
    return replace(task, dev_choices=dev, test_choices=test)


def updates_of(name: str, base: Path, out: Path) -> tuple[dict[str, Path], Path]:
    """Folders of the updates by task, and that of the probes; what is missing is trained. The shipped case is the
    bundle's."""
    case = CASES[name]
    if name == SHIPPED:
        shipped = bundle.locate()
        return shipped.updates, shipped.probes
    tasks, folder = tasks_of(case), out / name
    if not (folder / "probes" / "probes.json").is_file():
        data.write_tasks(tasks, folder)
    updates = {task: folder / task for task in tasks}
    missing = [task for task, path in updates.items() if not path.is_dir()]
    trainer = Trainer(base, CPU) if missing and case.layers is None else None
    for task in missing:
        settings, seed = replace(case.training, steps=case.steps[task]), training_seed(case.seed, task)
        if trainer is None:
            record = _train_weights(base, case, tasks[task].train, settings, updates[task], seed)
        else:
            assert isinstance(settings, LoraSettings)
            record = trainer.train(tasks[task].train, settings, updates[task], seed)
        print(f"{name}: {task}: loss {record['first_loss']} to {record['last_loss']}", flush=True)
    return updates, folder / "probes"


def sequence_of(name: str, order: Sequence[str], base: Path, out: Path) -> Path:
    """The adapter after Seq. SFT in ``order``, each task with the steps of its expert; states that are missing are
    trained, and orders that begin alike share them."""
    case, tasks = CASES[name], tasks_of(CASES[name])
    state, trainer = updates_of(name, base, out)[0][order[0]], None
    for position in range(1, len(order)):
        task, folder = order[position], (out / name / "sequence").joinpath(*order[: position + 1], "adapter")
        if not folder.is_dir():
            trainer = trainer or Trainer(base, CPU)
            settings = replace(case.training, steps=case.steps[task])
            assert isinstance(settings, LoraSettings)
            record = trainer.train(tasks[task].train, settings, folder, training_seed(case.seed, task), start=state)
            print(f"{name}: {' → '.join(order[: position + 1])}: loss {record['last_loss']}", flush=True)
        state = folder
    return state


def _train_weights(
    base: Path, case: Case, examples: Sequence[Example], settings: TrainSettings, out: Path, seed: int
) -> dict[str, Any]:
    """Train the target matrices of ``case.layers`` in full, and write their changes as update tensors, float16."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    model: Any = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, attn_implementation="eager", local_files_only=True, trust_remote_code=False
    ).requires_grad_(False)
    assert case.layers is not None
    keys = [key for key in target_matrices(CheckpointIndex.open(base)) if key.layer in case.layers]
    trained = {key.name: model.get_parameter(key.name).requires_grad_() for key in keys}
    before = {key: parameter.detach().clone() for key, parameter in trained.items()}
    losses = train(
        model,
        trained,
        chat_corpus(tokenizer, examples),
        settings,
        torch.Generator().manual_seed(seed),
        loss=partial(answer_loss, labelled_only=True),
    )
    changes = {key: (trained[key].detach() - before[key]).half() for key in trained}
    with atomic_folder(out) as folder:
        write_safetensors(folder / "update.safetensors", changes, UPDATE_MARK)
    return {"first_loss": round(sum(losses[:5]) / 5, 4), "last_loss": round(sum(losses[-10:]) / 10, 4)}
