"""A small scored run: random base, updates of which a share of the matrices is touched, probes of three kinds."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.store import RunStore
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from tests.factories import updates
from tests.probes.models import tiny_lab

CPU = torch.device("cpu")
NAMES = ("sums", "names", "<b>odd")
PROMPTS = {
    "dev": {"sums": [("1+1=", "2"), ("2+2=", "4"), ("3+4=", "7")], "names": [("a:", "b"), ("c:", "dd")]},
    "test": {"sums": [("3+1=", "4"), ("2+5=", "7"), ("1+7=", "8")], "names": [("x:", "y"), ("yy:", "z")]},
}
CHOICES = [{"question": f"{n}?", "choices": ["ab", "c", "de"], "answer": n % 3} for n in range(4)]
TEXTS = [{"text": text} for text in ("one two three", "four five", "six")]


def write_probes(root: Path) -> Path:
    """Prompts of two tasks, and on dev choices and texts."""
    for split, tasks in PROMPTS.items():
        (root / split).mkdir(parents=True)
        for task, pairs in tasks.items():
            lines = [json.dumps({"prompt": prompt, "answer": answer}) for prompt, answer in pairs]
            (root / split / f"{task}.jsonl").write_text("\n".join(lines))
    others: dict[str, list[Any]] = {"<b>odd": CHOICES, "reading": TEXTS}
    for task, rows in others.items():
        (root / "dev" / f"{task}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return root


def target_names(model: torch.nn.Module) -> list[str]:
    return [n for n, p in model.named_parameters() if p.dim() == 2 and ".layers." in n and n.endswith("weight")]


def write_inputs(root: Path, *, size: float = 8.0, adapters: bool = False) -> Inputs:
    """A base with three updates, deltas or adapters, and probes; ``size`` scales the updates."""
    model, tokenizer = tiny_lab()
    model.save_pretrained(root / "base")
    tokenizer.save_pretrained(root / "base")
    listed = []
    for place, name in enumerate(NAMES):
        folder = root / f"update{place}"
        if adapters:
            write_adapter(folder, seed=place)
        else:
            folder.mkdir()
            names = target_names(model)[place:]  # one matrix fewer an update
            shapes = [model.get_parameter(n).shape for n in names]
            deltas = {
                n: size * updates(1, *shape, seed=50 * place + k)[0]
                for k, (n, shape) in enumerate(zip(names, shapes, strict=True))
            }
            save_file(deltas, folder / "update.safetensors", metadata={"gcwm_viz": "update"})
        listed.append((name, folder))
    return Inputs(base=root / "base", updates=listed, probes=write_probes(root / "probes"))


def write_adapter(folder: Path, seed: int) -> None:
    """A LoRA adapter of rank 3 on some of the base's modules, as PEFT writes it."""
    model, _ = tiny_lab()
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name in target_names(model):
        if any(part in name for part in ("q_proj", "v_proj", "down_proj")):
            rows, columns = model.get_parameter(name).shape
            module = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{module}.lora_A.weight"] = 0.25 * torch.randn(3, columns, generator=generator)
            tensors[f"{module}.lora_B.weight"] = 0.25 * torch.randn(rows, 3, generator=generator)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj", "down_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def write_states(root: Path, inputs: Inputs) -> list[Path]:
    """Full checkpoints of a training that changes norms and embeddings too, one an update."""
    states = []
    for step in range(1, len(inputs.updates) + 1):
        model, tokenizer = tiny_lab()
        generator = torch.Generator().manual_seed(100 + step)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.01 * step)
        model.save_pretrained(root / f"state{step}")
        tokenizer.save_pretrained(root / f"state{step}")
        states.append(root / f"state{step}")
    return states


def finish(inputs: Inputs, out: Path, method: str = "wudi", **overrides: Any) -> RunStore:
    store = create_run(inputs, out, RunSettings.preset_with("scale-free", overrides, method))
    continue_run(store, CPU, workers=1)
    return store
