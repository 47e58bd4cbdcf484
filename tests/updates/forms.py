"""``python -m tests.updates.forms``: the table in docs/updates.md, from what reading every form of update does."""

import json
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
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
    """``build``: writes an update of the base into a new folder, and returns what is given as its path. ``base``: the
    model of :mod:`tests.checkpoints.tiny`."""

    name: str
    build: Callable[[CheckpointIndex, Path], Path]
    base: str = "qwen3"


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


def adapter(kind: str, **settings: Any) -> Callable[[CheckpointIndex, Path], Path]:
    def build(base: CheckpointIndex, folder: Path) -> Path:
        make = PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(kind)]
        config = make(**{"target_modules": ["q_proj", "v_proj"], **settings})
        return tiny.adapter(tiny.model("qwen3"), folder, config)[0]

    return build


def configured(**changes: Any) -> Callable[[CheckpointIndex, Path], Path]:
    """LoRA whose config says otherwise."""

    def build(base: CheckpointIndex, folder: Path) -> Path:
        file = lora(base, folder) / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
        return folder

    return build


def untrained(base: CheckpointIndex, folder: Path) -> Path:
    peft.get_peft_model(tiny.model("qwen3"), peft.LoraConfig(target_modules=["q_proj"])).save_pretrained(str(folder))
    return folder


def model(name: str, **settings: Any) -> Callable[[CheckpointIndex, Path], Path]:
    return lambda base, folder: tiny.save(tiny.model(name, seed=1), folder, **settings)


def lora_on_experts(base: CheckpointIndex, folder: Path) -> Path:
    targets = ["experts.down_proj", "experts.gate_up_proj"]
    return tiny.lora("mixtral", folder, r=2, target_modules=[], target_parameters=targets)[0]


def lora_on_tower(base: CheckpointIndex, folder: Path) -> Path:
    return tiny.lora("llama", folder, r=2, target_modules=["q_proj", "down_proj"])[0]


FORMS = (
    Form("checkpoint of the model's class", checkpoint),
    Form("the same in bfloat16, sharded", half_checkpoint),
    Form("folder of update tensors, marked", delta),
    Form("`EARLIER..LATER` of two states of a training", increment),
    Form("folder of `checkpoint-100`, `checkpoint-200`, …", states),
    Form("PEFT LoRA", lora),
    Form("LoRA upon a checkpoint, `MODEL+ADAPTER`", lora_on_checkpoint),
    Form(
        "LoRA with rsLoRA, rank and alpha patterns", adapter("LORA", r=4, use_rslora=True, rank_pattern={"v_proj": 2})
    ),
    Form("LoRA before its training", untrained),
    Form("DoRA", adapter("LORA", r=2, use_dora=True)),
    Form("PiSSA", adapter("LORA", r=2, init_lora_weights="pissa")),
    Form("OLoRA", adapter("LORA", r=2, init_lora_weights="olora")),
    Form("AdaLoRA", adapter("ADALORA", total_step=10, init_r=3)),
    Form("LoHa", adapter("LOHA", r=2)),
    Form("LoKr", adapter("LOKR", r=2)),
    Form("VeRA", adapter("VERA", r=2)),
    Form("IA³", adapter("IA3", feedforward_modules=[])),
    Form("OFT", adapter("OFT", oft_block_size=4, r=0)),
    Form("BOFT", adapter("BOFT", boft_block_size=4)),
    Form("LoRA by LoftQ", configured(init_lora_weights="loftq")),
    Form("LoRA by CorDA", configured(init_lora_weights="corda")),
    Form("activated LoRA", configured(alora_invocation_tokens=[1])),
    Form("prefix tuning", configured(peft_type="PREFIX_TUNING")),
    Form("experts stacked (gpt-oss)", model("gpt-oss"), "gpt-oss"),
    Form("experts stacked (Llama 4)", model("llama4"), "llama4"),
    Form("experts stacked, the base's apart (Mixtral)", model("mixtral", save_original_format=False), "mixtral"),
    Form("LoRA on stacked experts, `target_parameters`", lora_on_experts, "mixtral"),
    Form("a language model, of the base around it (LLaVA)", model("llama"), "llava"),
    Form("LoRA of a language model, of the base around it", lora_on_tower, "llava"),
    Form("hybrid of attention and state space (Jamba)", model("jamba"), "jamba"),
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
    count = f"{len(changed)} of {len(target_matrices(base))}"
    return {"update": form.name, "read as": f"{source.kind}{factored}", "matrices": count, "sentence": ""}


def table(folder: Path) -> str:
    names = dict.fromkeys(form.base for form in FORMS)
    bases = {name: CheckpointIndex.open(tiny.save(tiny.model(name), folder / name)) for name in names}
    return markdown([outcome(form, bases[form.base], folder / str(place)) for place, form in enumerate(FORMS)])


def document(text: str, folder: Path) -> str:
    return filled(text, {"forms": table(folder)})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8"), Path(scratch)), encoding="utf-8")
