"""Tiny random models of real architectures, written once a session and read by the tests of checkpoints and updates."""

import json
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

DENSE: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2: dict[str, Any] = {
    "vocab_size": 40,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
NEOX = {key: value for key, value in DENSE.items() if key != "num_key_value_heads"}
MOE = {**DENSE, "head_dim": 4, "moe_intermediate_size": 8, "num_experts": 3, "num_experts_per_tok": 2}

CONFIGS: dict[str, Callable[[], Any]] = {
    "qwen3": lambda: transformers.Qwen3Config(**DENSE, head_dim=4, tie_word_embeddings=True),
    "qwen3-untied": lambda: transformers.Qwen3Config(**DENSE, head_dim=4, tie_word_embeddings=False),
    "qwen2": lambda: transformers.Qwen2Config(**DENSE),
    "llama": lambda: transformers.LlamaConfig(**DENSE),
    "mistral": lambda: transformers.MistralConfig(**DENSE, head_dim=4),
    "gemma": lambda: transformers.GemmaConfig(**DENSE, head_dim=4),
    "phi3": lambda: transformers.Phi3Config(**DENSE),
    "gpt2": lambda: transformers.GPT2Config(**GPT2),
    "gpt-neox": lambda: transformers.GPTNeoXConfig(**NEOX),
    "qwen3-moe": lambda: transformers.Qwen3MoeConfig(**MOE),
    "mixtral": lambda: transformers.MixtralConfig(**DENSE, head_dim=4, num_local_experts=3, num_experts_per_tok=2),
    # Experts stacked in one tensor: (experts, d_in, d_out) in the first two, (experts, d_out, d_in) in the others.
    "gpt-oss": lambda: transformers.GptOssConfig(
        **DENSE,
        head_dim=4,
        num_local_experts=3,
        num_experts_per_tok=2,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    ),
    "llama4": lambda: transformers.Llama4TextConfig(
        **DENSE, head_dim=4, intermediate_size_mlp=24, num_local_experts=3, interleave_moe_layer_step=1
    ),
    "granite-moe": lambda: transformers.GraniteMoeConfig(**DENSE, num_local_experts=3, num_experts_per_tok=2),
    "jetmoe": lambda: transformers.JetMoeConfig(
        **{name: value for name, value in DENSE.items() if name != "num_attention_heads"},
        kv_channels=4,
        num_local_experts=3,
        num_experts_per_tok=2,
    ),
    "gemma2": lambda: transformers.Gemma2Config(**DENSE, head_dim=4),
    "gemma3": lambda: transformers.Gemma3TextConfig(**DENSE, head_dim=4),
}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 8,
    "patch_size": 4,
}
SEQ2SEQ: dict[str, Any] = {
    "vocab_size": 40,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
}
# Kinds that are read but not promised: what is odd about each is tested where it matters.
ODD: dict[str, Callable[[], Any]] = {
    "mamba2": lambda: transformers.Mamba2Config(
        vocab_size=40, hidden_size=16, num_heads=4, head_dim=8, state_size=4, n_groups=1, num_hidden_layers=2
    ),
    # Attention and Mamba-2 layers by turns; the config holds an infinity.
    "bamba": lambda: transformers.BambaConfig(
        **DENSE, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=4, mamba_n_groups=1, attn_layer_indices=[1]
    ),
    "deepseek-v3": lambda: transformers.DeepseekV3Config(
        **{**DENSE, "num_key_value_heads": 4}, moe_intermediate_size=8, n_routed_experts=4, num_experts_per_tok=2,
        first_k_dense_replace=1, kv_lora_rank=4, q_lora_rank=4, qk_nope_head_dim=4, qk_rope_head_dim=4, v_head_dim=4,
        n_group=1, topk_group=1,
    ),
    # Whose vision towers have blocks and projections of the same names.
    "gemma3-vision": lambda: transformers.Gemma3Config(
        text_config=CONFIGS["gemma3"](), vision_config=transformers.SiglipVisionConfig(**VISION), mm_tokens_per_image=4
    ),
    "llava": lambda: transformers.LlavaConfig(
        text_config=CONFIGS["llama"](), vision_config=transformers.CLIPVisionConfig(**VISION)
    ),
    # Whose published checkpoint has its stacks the other way round than the model in memory.
    "qwen3-vl-moe": lambda: transformers.Qwen3VLMoeConfig(
        text_config={
            **DENSE, "head_dim": 4, "moe_intermediate_size": 6, "num_experts": 3, "num_experts_per_tok": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 0]},
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 24, "num_heads": 4, "patch_size": 4,
            "out_hidden_size": 16, "deepstack_visual_indexes": [0],
        },
    ),
    "t5": lambda: transformers.T5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4),
    "bart": lambda: transformers.BartConfig(**SEQ2SEQ, max_position_embeddings=32),
    "whisper": lambda: transformers.WhisperConfig(
        **SEQ2SEQ, num_mel_bins=8, max_source_positions=16, max_target_positions=16, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=1,
    ),
    # State-space mixers: alone, by turns with attention, or beside it.
    "mamba": lambda: transformers.MambaConfig(vocab_size=40, hidden_size=16, state_size=4, num_hidden_layers=2),
    "jamba": lambda: transformers.JambaConfig(
        **DENSE, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=1, num_experts=2,
        mamba_d_state=4, mamba_dt_rank=4, use_mamba_kernels=False,
    ),
    "falcon-h1": lambda: transformers.FalconH1Config(
        **DENSE, mamba_d_ssm=16, mamba_n_heads=4, mamba_d_head=4, mamba_d_state=4, mamba_n_groups=1
    ),
    "qwen3-next": lambda: transformers.Qwen3NextConfig(
        **MOE, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=4, linear_value_head_dim=4,
        shared_expert_intermediate_size=8, layer_types=["linear_attention", "full_attention"],
    ),
    "granite-hybrid": lambda: transformers.GraniteMoeHybridConfig(
        **DENSE, num_local_experts=0, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=4, mamba_n_groups=1,
        layer_types=["mamba", "attention"], shared_intermediate_size=24,
    ),
    "lfm2": lambda: transformers.Lfm2Config(**DENSE, layer_types=["conv", "full_attention"]),
}  # fmt: skip


def model(name: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = (CONFIGS | ODD)[name]()
    if config.architectures is None and config.is_encoder_decoder:
        kind = "AutoModelForSpeechSeq2Seq" if config.model_type == "whisper" else "AutoModelForSeq2SeqLM"
    else:
        kind = "AutoModelForImageTextToText" if hasattr(config, "vision_config") else "AutoModelForCausalLM"
    return getattr(transformers, kind).from_config(config).eval()


def save(a_model: Any, folder: Path, **settings: Any) -> Path:
    a_model.save_pretrained(folder, **settings)
    return folder


def tensors(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def matrices(folder: Path) -> dict[str, Tensor]:
    """The same, and views of the matrices of every stack under their names."""
    stored = tensors(folder)
    stacks = {name: tensor for name, tensor in stored.items() if tensor.ndim == 3}
    return stored | {f"{name}[{entry}]": part for name, stack in stacks.items() for entry, part in enumerate(stack)}


def store(folder: Path, content: dict[str, Tensor], file: str = "model.safetensors", **metadata: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(content, folder / file, metadata={"format": "pt", **metadata})
    return folder


def raw_file(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    """A safetensors file with any header, honest or not; ``header`` may be bytes."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return path


def lora(name: str, folder: Path, seed: int = 0, **settings: Any) -> tuple[Path, dict[str, Tensor], dict[str, Tensor]]:
    """A PEFT adapter on a tiny model with random factors: its folder, the base's weights, the merged weights."""
    import peft

    base = model(name)
    before = {key: tensor.clone() for key, tensor in base.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft and transformers disagree about deprecated names
        adapted = peft.get_peft_model(base, peft.LoraConfig(**settings))
        generator = torch.Generator().manual_seed(seed)
        for key, parameter in adapted.named_parameters():
            # modules_to_save and single token rows start from the base's own values
            if "lora_" in key or ".modules_to_save." in key or "trainable_tokens_delta" in key:
                parameter.data = torch.randn(parameter.shape, generator=generator)
        adapted.save_pretrained(str(folder))
        merged = adapted.merge_and_unload().state_dict()
    return folder, before, merged


def adapter(base: Any, folder: Path, config: Any, seed: int = 0) -> tuple[Path, dict[str, Tensor], dict[str, Tensor]]:
    """An adapter of any kind on a model, every trained tensor moved from its start: its folder, the base's weights, and
    the weights that peft merges."""
    import peft

    before = {key: tensor.clone() for key, tensor in base.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = peft.get_peft_model(base, config)
        generator = torch.Generator().manual_seed(seed)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
        adapted.save_pretrained(str(folder))
        merged = adapted.eval().merge_and_unload().state_dict()
    return folder, before, merged
