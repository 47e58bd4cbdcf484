"""LoRA updates of a chat model with peft: one adapter a task, and one trained on task after task.

Prompts go through the tokenizer's chat template, encoded as in the probes. Only the adapter is trained. A sequence
continues from the adapter as stored in float16, the one that ships.
"""

import contextlib
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.checkpoints.atomic import atomic_folder, write_json, write_safetensors
from gcwm_viz.experiments.corpus import Corpus
from gcwm_viz.experiments.draw import Example
from gcwm_viz.experiments.smollm2.base import HUB_ID
from gcwm_viz.experiments.training import TrainSettings, answer_loss, train
from gcwm_viz.probes.encoding import Encoder
from gcwm_viz.probes.tasks import Style

FAMILIES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, kw_only=True)
class LoraSettings(TrainSettings):
    """Rank `rank` on every target matrix, update = alpha/rank · BA.

    `start` scales the random initial A of peft. At full scale its random directions remain in the trained update, and
    the geometry between two tasks partly reflects their random numbers.
    """

    rank: int = 4
    alpha: int = 16
    start: float = 0.3
    lr: float = 3e-3
    steps: int = 120
    batch_size: int = 12


def chat_corpus(tokenizer: Any, examples: Sequence[Example]) -> Corpus:
    """Examples as a user's message and the assistant's closed answer."""
    encoder = Encoder(tokenizer)
    pairs = [encoder.exchange(prompt, answer, Style()) for prompt, answer in examples]
    return Corpus(pairs, int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id))


class Trainer:
    """A frozen base and the training of adapters on it.

    The base is in bfloat16 on a device that multiplies it natively (a GPU, a CPU with AMX), else in float32; the
    adapter's factors are float32.
    """

    def __init__(self, base: Path, device: torch.device) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.device = device
        fast = self.device.type == "cuda" or bool(torch.cpu.get_capabilities().get("amx_bf16"))
        self.dtype = torch.bfloat16 if fast else torch.float32
        self.tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
        # Eager attention: on short rows its backward pass takes half the time of the fused kernels on a CPU.
        model: Any = AutoModelForCausalLM.from_pretrained(
            base, dtype=self.dtype, attn_implementation="eager", local_files_only=True, trust_remote_code=False
        )
        self._model = model.to(self.device)

    def train(
        self,
        examples: Sequence[Example],
        settings: LoraSettings,
        out: Path,
        seed: int,
        *,
        start: Path | None = None,
    ) -> dict[str, Any]:
        """Train an adapter on `examples`, from `start` or a new one, write it to `out` and return training.json.

        A new adapter has a random A (drawn from `seed`) and B = 0. `out` appears complete or not at all.
        """
        generator = torch.Generator().manual_seed(seed)
        corpus = chat_corpus(self.tokenizer, examples)
        began = time.perf_counter()
        with self._adapted(settings, seed, start) as adapted:
            factors = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
            losses = train(adapted.get_base_model(), factors, corpus, settings, generator, loss=self._loss)
            record = {
                "steps": settings.steps,
                "seed": seed,
                "seconds": round(time.perf_counter() - began, 1),
                "first_loss": round(sum(losses[:5]) / len(losses[:5]), 4),
                "last_loss": round(sum(losses[-10:]) / len(losses[-10:]), 4),
                "device": self.device.type,
                "dtype": str(self.dtype).removeprefix("torch."),
            }
            _write_adapter(adapted, out, record)
        return record

    @contextlib.contextmanager
    def _adapted(self, settings: LoraSettings, seed: int, start: Path | None) -> Iterator[Any]:
        adapted = (
            _new_adapter(self._model, settings, seed) if start is None else put_on(self._model, start, trainable=True)
        )
        try:
            yield adapted
        finally:
            self._model = adapted.unload()

    def _loss(self, model: Any, ids: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            return answer_loss(model, ids.to(self.device), labels.to(self.device), labelled_only=True)


def put_on(model: Any, adapter: Path, *, trainable: bool = False) -> Any:
    """`model` with a stored adapter; `unload()` of the result returns `model`. `trainable`: for further training."""
    from peft import PeftModel

    with _without_deprecation():
        return PeftModel.from_pretrained(
            model, str(adapter), is_trainable=trainable, local_files_only=True, trust_remote_code=False
        )


def _new_adapter(model: Any, settings: LoraSettings, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, target_modules=list(FAMILIES), task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(devices=[]), _without_deprecation():
        torch.manual_seed(seed)
        adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_A." in name:
                parameter.mul_(settings.start)
    return adapted


@contextlib.contextmanager
def _without_deprecation() -> Iterator[None]:
    """Ignores the warning for a deprecated attribute of transformers that peft reads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def _write_adapter(adapted: Any, out: Path, training: dict[str, Any]) -> None:
    """Write a PEFT adapter folder, with the hub id of its base instead of a local path."""
    from peft import get_peft_model_state_dict

    config = adapted.peft_config["default"]
    config.base_model_name_or_path = HUB_ID
    config.inference_mode = True
    config.target_modules = list(FAMILIES)  # a set, which JSON would list in any order
    factors = {
        name: tensor.detach().to("cpu", torch.float16)
        for name, tensor in get_peft_model_state_dict(adapted, save_embedding_layers=False).items()
    }
    with atomic_folder(out) as folder:
        config.save_pretrained(folder)
        write_safetensors(folder / "adapter_model.safetensors", factors, {"format": "pt"})
        write_json(folder / "training.json", training)
