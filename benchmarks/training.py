"""``python -m benchmarks.training``: what a measurement of the training callback takes, the table of docs/training.md.

On random weights of SmolLM2-135M's shapes, against two earlier updates of the same kind: what is prepared before the
first step, and a measurement. Two measurements of the same update must give the same numbers.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import machine
from gcwm_viz.integrations.in_training import update_in_training
from gcwm_viz.integrations.measurement import MATRICES, SECONDS, Geometry, spread
from gcwm_viz.integrations.meeting import Meeting
from gcwm_viz.signals.interference import LARGEST_DENSE
from gcwm_viz.updates.choice import Choice

SHAPE: dict[str, Any] = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 512,  # embeddings are no target matrices
}
LORA: dict[str, Any] = {
    "r": 16,
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}
INTRUDERS = 1536
CASES = (("LoRA, rank 16", True, LARGEST_DENSE), ("full", False, LARGEST_DENSE), ("LoRA, rank 16", True, INTRUDERS))


def new_model(seed: int, *, lora: bool) -> Any:
    """The base, in which every matrix is moved by a decaying spectrum and noise, or by LoRA's factors; seed 0: not."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(LlamaConfig(**SHAPE))
    if lora:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(**LORA))
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters() if seed else ():
            if lora and "lora_" in name:
                parameter.normal_(0, 0.02, generator=rng)
            elif not lora and parameter.ndim == 2:
                parameter += _change(parameter.shape, rng)
    return model


def _change(shape: torch.Size, rng: torch.Generator) -> Tensor:
    left, right = torch.randn(shape[0], 64, generator=rng), torch.randn(64, shape[1], generator=rng)
    return 1e-4 * ((left / torch.arange(1.0, 65.0)) @ right + torch.randn(shape, generator=rng))


def rows(root: Path) -> Iterator[str]:
    base = root / "base"
    new_model(0, lora=False).save_pretrained(base)
    for title, lora, largest in CASES:
        earlier = {name: root / f"{name}-{lora}" for name in ("math", "code")}
        for seed, folder in enumerate(earlier.values(), start=1):
            if not folder.exists():
                new_model(seed, lora=lora).save_pretrained(folder)
        model = new_model(3, lora=lora)
        meeting = Meeting.of(base, earlier, Choice())
        geometry = Geometry(meeting, spread(meeting.keys), torch.device("cpu"), largest, by_family=True)
        start = time.monotonic()
        geometry.prepare(float("inf"), None)
        prepared = time.monotonic() - start
        found = []
        for _ in range(2):
            with update_in_training(model, meeting.base) as update:
                found.append(geometry.of(update, float("inf")))
        seconds = min(values.pop(SECONDS) for values in found)
        assert found[0] == found[1]
        yield f"| {title} | {largest} | {found[0][MATRICES]:.0f} | {prepared:.0f} s | {seconds:.1f} s |"


if __name__ == "__main__":
    about = machine.describe()
    print("| training | intruder directions up to | matrices | before the first step | a measurement |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for row in rows(Path(scratch)):
            print(row, flush=True)
    print(f"\n{about['cpu']}, {about['threads']} threads, load before {about['load_before']}, torch {about['torch']}.")
