"""LoRA updates of a chat model with peft: one adapter a task, and one that goes on from task to task.

The loss is the mean cross-entropy over the answer and the token that closes it; prompts go through the tokenizer's chat
template, encoded as the probes encode them. Only the adapter moves. An adapter is kept in float16 and read back before
anything builds on it, so that what was trained on is what ships.

Shape suffixes: b batch, l sequence length, n labelled tokens of the batch, d hidden, v vocabulary.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gcwm_viz.checkpoints.atomic import atomic_folder, write_json, write_safetensors
from gcwm_viz.errors import InputError
from gcwm_viz.experiments.lab.examples import Example
from gcwm_viz.experiments.lab.train import warm_cosine
from gcwm_viz.experiments.smollm2.base import HUB_ID
from gcwm_viz.probes.encoding import Encoder, Request
from gcwm_viz.probes.tasks import Style

FAMILIES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Rank `rank` on every target matrix, update = alpha/rank · BA; AdamW, linear warm-up, cosine to zero.

    `start` scales the random A that peft begins with. At full scale its random directions stay visible in the trained
    update, and part of the geometry between two tasks is that of their random numbers.
    """

    rank: int = 4
    alpha: int = 16
    start: float = 0.3
    lr: float = 3e-3
    steps: int = 120
    batch_size: int = 12
    warmup: int = 10
    clip: float = 1.0

    def rate(self, step: int) -> float:
        """Learning rate of step 0, 1, … steps − 1."""
        return warm_cosine(self.lr, step, self.steps, self.warmup)


class Corpus:
    """(prompt, answer) pairs as token ids, to draw batches from."""

    def __init__(self, tokenizer: Any, examples: Sequence[Example]) -> None:
        encoder = Encoder(tokenizer)
        self.rows: list[Request] = [encoder.exchange(prompt, answer, Style()) for prompt, answer in examples]
        self.pad = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)

    def sample(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(ids_bl, asked_bl): `size` rows drawn with replacement, padded on the right; asked = answer tokens."""
        drawn = [self.rows[i] for i in torch.randint(len(self.rows), (size,), generator=generator).tolist()]
        length = max(len(start) + len(end) for start, end in drawn)
        ids = torch.full((size, length), self.pad)
        asked = torch.zeros((size, length), dtype=torch.bool)
        for k, (start, end) in enumerate(drawn):
            ids[k, : len(start) + len(end)] = torch.tensor(start + end)
            asked[k, len(start) : len(start) + len(end)] = True
        return ids, asked


def answer_loss(model: Any, ids_bl: Tensor, asked_bl: Tensor) -> Tensor:
    """Mean cross-entropy over the asked tokens; logits are formed at their positions alone.

    No attention mask: padding is on the right, so causal attention never lets an answer see it.
    """
    hidden_bld = model.get_decoder()(input_ids=ids_bl, use_cache=False).last_hidden_state
    logits_nv = model.get_output_embeddings()(hidden_bld[:, :-1][asked_bl[:, 1:]])
    return cross_entropy(logits_nv.float(), ids_bl[:, 1:][asked_bl[:, 1:]])


class Trainer:
    """A base that adapters are trained on.

    The frozen base is held in bfloat16 where the CPU multiplies that natively (a GPU, a CPU with AMX), else in
    float32; the adapter's factors are float32.
    """

    def __init__(self, base: Path, device: torch.device) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.device = device
        fast = self.device.type == "cuda" or bool(torch.cpu.get_capabilities().get("amx_bf16"))
        self.dtype = torch.bfloat16 if fast else torch.float32
        self.tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
        # Eager attention: on short rows its backward takes half the time of the fused kernels on a CPU.
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
        """Train an adapter on `examples`, from `start` or from nothing, write it to `out` and return training.json.

        A fresh adapter has its own random A (drawn from `seed`) and B = 0. `out` appears complete or not at all.
        """
        generator = torch.Generator().manual_seed(seed)
        corpus = Corpus(self.tokenizer, examples)
        began = time.perf_counter()
        with self._adapted(settings, seed, start) as adapted:
            losses = self._loop(adapted, settings, corpus, generator)
            written = {
                "steps": settings.steps,
                "seed": seed,
                "seconds": round(time.perf_counter() - began, 1),
                "first_loss": round(sum(losses[:5]) / len(losses[:5]), 4),
                "last_loss": round(sum(losses[-10:]) / len(losses[-10:]), 4),
                "device": self.device.type,
                "dtype": str(self.dtype).removeprefix("torch."),
            }
            _write_adapter(adapted, out, written)
        return written

    @contextlib.contextmanager
    def _adapted(self, settings: LoraSettings, seed: int, start: Path | None) -> Iterator[Any]:
        adapted = _new_adapter(self._model, settings, seed) if start is None else put_on(self._model, start, moves=True)
        try:
            yield adapted
        finally:
            self._model = adapted.unload()

    def _loop(self, adapted: Any, settings: LoraSettings, corpus: Corpus, generator: torch.Generator) -> list[float]:
        trained = [p for p in adapted.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=settings.lr, betas=(0.9, 0.98), weight_decay=0.0)
        model = adapted.get_base_model()
        model.train()
        losses = []
        for step in range(settings.steps):
            for group in optimizer.param_groups:
                group["lr"] = settings.rate(step)
            ids, asked = (t.to(self.device) for t in corpus.sample(settings.batch_size, generator))
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
                loss = answer_loss(model, ids, asked)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise InputError(f"training diverged at step {step + 1}: expected a finite loss, found {losses[-1]}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, settings.clip)
            optimizer.step()
        model.eval()
        return losses


def put_on(model: Any, adapter: Path, *, moves: bool = False) -> Any:
    """`model` with a stored adapter; `unload()` of the result gives the model back. `moves`: to be trained."""
    from peft import PeftModel

    with _between_libraries():
        return PeftModel.from_pretrained(
            model, str(adapter), is_trainable=moves, local_files_only=True, trust_remote_code=False
        )


def _new_adapter(model: Any, settings: LoraSettings, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, target_modules=list(FAMILIES), task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(devices=[]), _between_libraries():
        torch.manual_seed(seed)
        adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_A." in name:
                parameter.mul_(settings.start)
    return adapted


@contextlib.contextmanager
def _between_libraries() -> Iterator[None]:
    """peft asks transformers by a name that transformers gives another in future: nothing to act on here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def _write_adapter(adapted: Any, out: Path, training: dict[str, Any]) -> None:
    """A PEFT adapter folder that names its base by hub id and holds no path of this machine."""
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
