"""``python -m tests.updates.forms``: the table in docs/updates.md, from what reading every form of update does."""

import json
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.document import filled
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError
from gcwm_viz.studies.lab.summary import markdown
from gcwm_viz.updates.pairing import open_update, plan, target_matrices
from tests.checkpoints import tiny

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "updates.md"
UP = "model.layers.0.mlp.up_proj"


@dataclass(frozen=True)
class Form:
    """``build``: writes an update of the base into a new folder, and returns what is given as its path."""

    name: str
    build: Callable[[CheckpointIndex, Path], Path]


def int4(rows: int, columns: int) -> Tensor:
    return torch.zeros(rows, columns, dtype=torch.int32)


# What each stores for one weight of shape (24, 16), by suffix; the rest of the model stays as it is.
QUANTISED = {
    "bitsandbytes": {
        ".weight": torch.zeros(192, 1, dtype=torch.uint8),
        ".weight.absmax": torch.ones(6),
        ".weight.quant_map": torch.ones(16),
        ".weight.quant_state.bitsandbytes__nf4": torch.zeros(90, dtype=torch.uint8),
    },
    "bitsandbytes 8 bit": {".weight": torch.zeros(24, 16, dtype=torch.int8), ".SCB": torch.ones(24)},
    "gptq": {".qweight": int4(2, 24), ".qzeros": int4(1, 3), ".scales": torch.ones(1, 24), ".g_idx": int4(1, 16)[0]},
    "awq": {".qweight": int4(16, 3), ".qzeros": int4(1, 3), ".scales": torch.ones(1, 24)},
    "fp8": {".weight": torch.zeros(24, 16).to(torch.float8_e4m3fn), ".weight_scale_inv": torch.ones(1, 1)},
    "compressed-tensors": {".weight_packed": int4(24, 2), ".weight_scale": torch.ones(24, 1)},
    "mxfp4": {"_blocks": torch.zeros(24, 1, 16, dtype=torch.uint8), "_scales": torch.ones(24, 1, dtype=torch.uint8)},
}


def checkpoint(base: CheckpointIndex, folder: Path, seed: int = 1) -> Path:
    return tiny.save(tiny.model("qwen3", seed=seed), folder)


def half_checkpoint(base: CheckpointIndex, folder: Path) -> Path:
    return tiny.save(tiny.model("qwen3", seed=1).to(torch.bfloat16), folder, max_shard_size="10KB")


def lora(base: CheckpointIndex, folder: Path, **settings: Any) -> Path:
    return tiny.lora("qwen3", folder, r=2, target_modules="all-linear", **settings)[0]


def delta(base: CheckpointIndex, folder: Path) -> Path:
    return tiny.store(folder, {f"{UP}.weight": torch.ones(24, 16)}, "update.safetensors", gcwm_viz="update")


def lora_on_checkpoint(base: CheckpointIndex, folder: Path) -> Path:
    return Path(f"{checkpoint(base, folder / 'model')}+{lora(base, folder / 'lora')}")


def states(base: CheckpointIndex, folder: Path) -> Path:
    for step in (1, 2):
        checkpoint(base, folder / f"checkpoint-{step}", seed=step)
    return folder


def increment(base: CheckpointIndex, folder: Path) -> Path:
    states(base, folder)
    return Path(f"{folder / 'checkpoint-1'}..{folder / 'checkpoint-2'}")


def file_alone(name: str) -> Callable[[CheckpointIndex, Path], Path]:
    def build(base: CheckpointIndex, folder: Path) -> Path:
        folder.mkdir(parents=True)
        (folder / name).write_bytes(b"GGUF")
        return folder

    return build


def quantised(method: str) -> Callable[[CheckpointIndex, Path], Path]:
    def build(base: CheckpointIndex, folder: Path) -> Path:
        content = tiny.tensors(base.root)
        del content[f"{UP}.weight"]
        tiny.store(folder, content | {f"{UP}{suffix}": tensor for suffix, tensor in QUANTISED[method].items()})
        config = base.config | {"quantization_config": {"quant_method": method.split()[0]}}
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return build


FORMS = (
    Form("checkpoint of the model's class", checkpoint),
    Form("the same in bfloat16, sharded", half_checkpoint),
    Form("folder of update tensors, marked", delta),
    Form("`EARLIER..LATER` of two states of a training", increment),
    Form("folder of `checkpoint-100`, `checkpoint-200`, …", states),
    Form("PEFT LoRA", lora),
    Form("LoRA upon a checkpoint, `MODEL+ADAPTER`", lora_on_checkpoint),
    *(Form(f"quantised by {method}", quantised(method)) for method in QUANTISED),
    Form("GGUF", file_alone("model.gguf")),
    Form("pickle", file_alone("pytorch_model.bin")),
)


def outcome(form: Form, base: CheckpointIndex, folder: Path) -> dict[str, str]:
    """Row of the table: what ``plan`` and reading every matrix do with the form."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's and transformers' own, while they write
        path = form.build(base, folder)
    try:
        source = open_update("update", path, base)
        plan(base, [source])
        changed = [key for key in source.touched(target_matrices(base)) if source.delta(key) is not None]
    except InputError as error:
        sentence = str(error).replace(str(folder), "DIR").replace(str(base.root), "BASE")
        return {"update": form.name, "read as": "refused", "matrices": "", "sentence": sentence.replace("|", "\\|")}
    factored = " as factors" if any(source.rank(key) for key in changed) else ""
    return {"update": form.name, "read as": f"{source.kind}{factored}", "matrices": str(len(changed)), "sentence": ""}


def table(folder: Path) -> str:
    base = CheckpointIndex.open(tiny.save(tiny.model("qwen3"), folder / "base"))
    rows = [outcome(form, base, folder / str(place)) for place, form in enumerate(FORMS)]
    return markdown(rows)


def document(text: str, folder: Path) -> str:
    return filled(text, {"forms": table(folder)})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8"), Path(scratch)), encoding="utf-8")
