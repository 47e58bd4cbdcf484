"""The lab's model: a small Qwen3 with a character tokenizer, and its target matrices as plain tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:  # a page that only lists the pipelines does not import transformers' models
    from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

PAD, EOS, BOS = "<pad>", "<eos>", "<bos>"
PAD_ID, EOS_ID, BOS_ID = 0, 1, 2
FIRST_CHARACTER = 32
TARGET_FAMILIES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """Sizes of the lab's Qwen3; embeddings are tied."""

    hidden: int = 112
    intermediate: int = 320
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 28
    initializer_range: float = 0.05
    max_length: int = 64


def build_tokenizer() -> PreTrainedTokenizerFast:
    """PAD/EOS/BOS and the 95 printable ASCII characters, one token each; encoding puts BOS in front."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {PAD: PAD_ID, EOS: EOS_ID, BOS: BOS_ID}
    for code in range(FIRST_CHARACTER, 127):
        vocabulary[chr(code)] = len(vocabulary)
    # WordLevel drops unknown characters without an unk_token, so they map to PAD.
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=PAD))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, BOS_ID)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, bos_token=BOS, clean_up_tokenization_spaces=False
    )


def character_ids(text: str) -> list[int]:
    """Token ids of printable ASCII without BOS, as by `build_tokenizer` but faster."""
    return [ord(c) - FIRST_CHARACTER + BOS_ID + 1 for c in text]


def new_model(shape: ModelShape, generator: torch.Generator) -> Qwen3ForCausalLM:
    """A float32 model with weights drawn from `generator`: normal with `initializer_range`, norms at one."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=BOS_ID + 1 + 95,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.max_length,
        initializer_range=shape.initializer_range,
        tie_word_embeddings=True,
        pad_token_id=PAD_ID,
        eos_token_id=EOS_ID,
        bos_token_id=BOS_ID,
        use_cache=False,
    )
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.fill_(1.0)
            else:
                parameter.normal_(0.0, shape.initializer_range, generator=generator)
    return model


def target_names(names: Iterable[str]) -> list[str]:
    """The names of the target matrices among `names`, in their order."""
    return [n for n in names if n.endswith(".weight") and n.split(".")[-2] in TARGET_FAMILIES]


def copy_state(model: torch.nn.Module) -> dict[str, Tensor]:
    """Detached float32 copies of all parameters by name (tied weights once)."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def load_state(model: torch.nn.Module, state: Mapping[str, Tensor]) -> None:
    """Write `state` into the model's parameters of the same names; the others are unchanged."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in state.items():
            parameters[name].copy_(value)


def round_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor rounded to float16 and back, as written to a float16 file and read."""
    return {name: value.half().float() for name, value in state.items()}
