"""A tiny model in training, and earlier updates of its base."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.store import RunStore
from gcwm_viz.geometry.config import WITHOUT_PROBES
from gcwm_viz.integrations.transformers import PREFIX, GeometryConflictCallback
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from tests.checkpoints import tiny

CPU = torch.device("cpu")
Values = dict[str, float]


def data(count: int = 8) -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(3)
    rows = torch.randint(3, 40, (count, 6), generator=generator).tolist()
    return [{"input_ids": row, "labels": row} for row in rows]


def new_trainer(model: Any, out: Path, **settings: Any) -> Trainer:
    chosen: dict[str, Any] = {
        "max_steps": 4,
        "save_strategy": "no",
        "logging_steps": 2,
        "per_device_train_batch_size": 1,
        "learning_rate": 5e-3,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 1,
        "dataloader_pin_memory": False,
    }
    return Trainer(model=model, args=TrainingArguments(str(out), **chosen | settings), train_dataset=data())


def train(trainer: Trainer, resume: Path | None = None, **settings: Any) -> dict[int, Values]:
    """The callback's values by step, those of the clock left out."""
    trainer.add_callback(GeometryConflictCallback(trainer, **settings))
    with in_quiet():
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return geometry(trainer.state.log_history)


def geometry(history: list[dict[str, float]]) -> dict[int, Values]:
    found: dict[int, Values] = {}
    for entry in history:
        own = {name.removeprefix(PREFIX): value for name, value in entry.items() if name.startswith(PREFIX)}
        if own:
            assert int(entry["step"]) not in found, "measured once a step"
            own.pop("seconds")
            found[int(entry["step"])] = own
    return found


@contextmanager
def in_quiet() -> Iterator[None]:
    """Without what peft, the Trainer and torch warn of about each other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def write_base(root: Path, name: str = "llama", seed: int = 0) -> Path:
    return tiny.save(tiny.model(name, seed), root)


def write_earlier(root: Path) -> dict[str, Path]:
    """A full checkpoint and an adapter of :func:`write_base`'s model."""
    math = tiny.model("llama")
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in math.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    code, _, _ = tiny.lora("llama", root / "code", seed=5, r=2, target_modules=["q_proj", "down_proj"])
    return {"math": tiny.save(math, root / "math"), "code": code}


def adapted(base: Path, name: str = "default", **settings: Any) -> Any:
    """The base with LoRA factors that are to be trained, as the adapter ``name``."""
    import peft
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    with in_quiet():
        return peft.get_peft_model(model, peft.LoraConfig(**settings), adapter_name=name)


def finished(base: Path, updates: dict[str, Path], out: Path) -> RunStore:
    """A run as the command line makes it of a base and updates alone."""
    settings = RunSettings.preset_with("scale-free", {}).at_eta(WITHOUT_PROBES)
    store = create_run(Inputs(base=base, updates=list(updates.items())), out, settings)
    continue_run(store, CPU, workers=1)
    return store


def log_of(checkpoint: Path) -> dict[int, Values]:
    history: list[dict[str, float]] = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    return geometry(history)
