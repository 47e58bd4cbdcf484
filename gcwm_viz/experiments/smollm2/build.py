"""`example smollm2 --train`: data, adapters, Seq. SFT and scores into one folder; a second call resumes.

Every adapter folder appears complete or not at all, so a killed training loses one adapter at most. The batches of a
task and the initial adapter depend on the seed and the task's name alone: the first step of the sequence is the first
expert, and each expert has its own random A (a shared A alone would make adapters similar).
"""

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gcwm_viz.checkpoints.atomic import write_bytes, write_json
from gcwm_viz.errors import InputError
from gcwm_viz.experiments.bundles import digests, score_rows, versions
from gcwm_viz.experiments.draw import seeded
from gcwm_viz.experiments.smollm2 import data
from gcwm_viz.experiments.smollm2.base import GGUF, GGUF_SHA256, HUB_ID, WHEEL
from gcwm_viz.experiments.smollm2.bundle import FORMAT, adapter_folder, state_folder
from gcwm_viz.experiments.smollm2.notice import NOTICE
from gcwm_viz.experiments.smollm2.train import LoraSettings, Trainer, put_on
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.tasks import load_tasks

STEPS = {"country": 70, "chemistry": 80, "words": 80, "arithmetic": 140, "python": 140}
"""Optimiser steps of each expert; facts need fewer than skills."""
SEQUENCE_STEPS = {"chemistry": 60, "words": 60, "arithmetic": 90, "python": 90}
"""The same for Seq. SFT from its second step on: a model that already answers briefly needs fewer."""
LIBRARIES = ("torch", "transformers", "peft", "gguf", "tokenizers", "safetensors")
RECORDED = ("rank", "alpha", "start", "lr", "steps", "batch_size", "warmup", "clip")
"""Settings in plan and recipe; the others are constant."""


def build(
    base: Path,
    out: Path,
    *,
    settings: LoraSettings | None = None,
    tasks: dict[str, data.ExampleTask] | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: torch.device | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Create what `out` lacks of the example, the recipe last, and return the recipe. `steps`: of every training, None
    for STEPS and SEQUENCE_STEPS. `device`: None for the CPU.

    Raises InputError when `out` holds adapters of other settings, data or seed, and when training diverges.
    """
    settings = LoraSettings() if settings is None else settings
    device = torch.device("cpu") if device is None else device
    tasks = data.build_tasks(seed) if tasks is None else tasks
    order = list(tasks)
    expert_steps = {name: STEPS[name] if steps is None else steps for name in order}
    later_steps = {name: SEQUENCE_STEPS[name] if steps is None else steps for name in order[1:]}
    recorded = {name: getattr(settings, name) for name in RECORDED}
    plan = {
        "settings": {**recorded, "steps": expert_steps, "sequence_steps": later_steps},
        "seed": seed,
        "order": order,
        "data": versions(data.PACKAGES),
    }
    _start(out, plan, tasks)
    jobs: list[tuple[Path, str, Path | None]] = []
    jobs += [(adapter_folder(out, i, name), name, None) for i, name in enumerate(order, start=1)]
    before = jobs[0][0]
    for step, name in enumerate(order[1:], start=2):
        jobs.append((state_folder(out, step), name, before))
        before = state_folder(out, step)
    missing = [job for job in jobs if not (job[0] / "adapter_config.json").is_file()]
    if missing:
        trainer = Trainer(base, device)
        for i, (folder, name, start) in enumerate(missing, start=1):
            report(f"training {folder.relative_to(out)} ({i} of {len(missing)})")
            chosen = replace(settings, steps=(expert_steps if start is None else later_steps)[name])
            record = trainer.train(tasks[name].train, chosen, folder, training_seed(seed, name), start=start)
            report(f"  loss {record['first_loss']} to {record['last_loss']} in {record['seconds']} s")
        del trainer
    report("scoring base, adapters and states")
    recipe = {
        "format": FORMAT,
        "base": {"package": WHEEL, "file": GGUF, "sha256": GGUF_SHA256, "model": HUB_ID, "dtype": "bfloat16"},
        **plan,
        "dtype": "float16",
        "training": {
            folder.relative_to(out).as_posix(): json.loads((folder / "training.json").read_text(encoding="utf-8"))
            for folder, _, _ in jobs
        },
        "hardware": _hardware(device),
        "versions": {"python": platform.python_version(), **versions(LIBRARIES)},
        "scores": measure(base, out, order, device),
        "sha256": digests(out),
    }
    write_json(out / "recipe.json", recipe)
    return recipe


def measure(base: Path, out: Path, order: Sequence[str], device: torch.device) -> list[dict[str, Any]]:
    """Rows {model, step, update, task, split, metric, value, se, n} of base, experts and Seq. SFT, in float32.

    Step t of Seq. SFT is model "step"; an expert's step is its position in the order.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    probe = BehaviourProbe(tokenizer, load_tasks(out / "probes"))
    model: Any = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, local_files_only=True, trust_remote_code=False
    )
    model = model.to(device)
    experts = [("expert", i, name, adapter_folder(out, i, name)) for i, name in enumerate(order, start=1)]
    states = [("step", t, name, state_folder(out, t)) for t, name in enumerate(order, start=1)]
    states[0] = ("step", 1, order[0], adapter_folder(out, 1, order[0]))
    rows = list(score_rows("base", 0, "", probe.score(model, device)))
    scored: dict[Path, list[dict[str, Any]]] = {}
    for kind, step, name, folder in (*experts, *states):
        if folder not in scored:
            adapted = put_on(model, folder)
            scored[folder] = probe.score(adapted.get_base_model(), device)
            model = adapted.unload()
        rows += score_rows(kind, step, name, scored[folder])
    return rows


def _start(out: Path, plan: dict[str, Any], tasks: dict[str, data.ExampleTask]) -> None:
    """Write plan and data into a folder; an existing plan must be the same."""
    file = out / "plan.json"
    if file.is_file():
        if json.loads(file.read_text(encoding="utf-8")) != json.loads(json.dumps(plan)):
            raise InputError(f"{file}: this training has other settings, seed or packages; expected another --out")
    elif out.exists() and any(out.iterdir()):
        raise InputError(f"{out}: expected a new folder or a training to go on with, found something else")
    out.mkdir(parents=True, exist_ok=True)
    write_json(file, plan)
    data.write_tasks(tasks, out)
    write_bytes(out / "NOTICE.md", NOTICE.format(**versions(data.PACKAGES)).encode())


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
    return f"{name}, {torch.get_num_threads()} thread(s)"


def training_seed(seed: int, name: str) -> int:
    """Of the batches and the initial adapter of one task."""
    return seeded(seed, "smollm2 training", name).initial_seed()
