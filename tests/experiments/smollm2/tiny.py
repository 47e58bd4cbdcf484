"""A tiny chat model: random weights, byte-level tokenizer, chat template; as a checkpoint folder and as a GGUF."""

import json
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
WIDE, HEADS, KEYS = 64, 4, 2


def tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "at"])}
    bpe = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "t")]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    names = {"unk_token": SPECIAL[0], "bos_token": SPECIAL[1], "eos_token": SPECIAL[2], "pad_token": SPECIAL[2]}
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, **names)
    fast.chat_template = TEMPLATE
    return fast


def model(seed: int = 0, spread: float = 0.3) -> LlamaForCausalLM:
    """Two layers whose weights are bfloat16 numbers, so that storing them as such changes nothing."""
    config = LlamaConfig(
        vocab_size=len(tokenizer()),
        hidden_size=WIDE,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=KEYS,
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    llama = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in llama.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * spread
            parameter.copy_((noise + (1 if parameter.dim() == 1 else 0)).bfloat16())
    llama.eval()
    return llama


def checkpoint(folder: Path) -> Path:
    model().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def write_gguf(path: Path) -> Path:
    """`model` and `tokenizer` as llama.cpp stores a Llama: its names, and q and k with the halves of a head woven."""
    import gguf

    llama = model()
    config = llama.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(WIDE // HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    content = json.loads(tokenizer().backend_tokenizer.to_str())["model"]
    tokens = sorted(content["vocab"], key=content["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in content["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    for name, tensor in llama.state_dict().items():
        stored = _stored_name(name)
        if stored is not None:
            writer.add_tensor(stored, _woven(name, tensor).numpy().astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _stored_name(name: str) -> str | None:
    outside = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if not name.startswith("model.layers."):
        return outside.get(name)  # lm_head is tied
    _, _, layer, *module, _ = name.split(".")
    inside = {
        "q_proj": "attn_q",
        "k_proj": "attn_k",
        "v_proj": "attn_v",
        "o_proj": "attn_output",
        "gate_proj": "ffn_gate",
        "up_proj": "ffn_up",
        "down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    return f"blk.{layer}.{inside[module[-1]]}.weight"


def _woven(name: str, tensor: torch.Tensor) -> torch.Tensor:
    heads = HEADS if "q_proj" in name else KEYS if "k_proj" in name else None
    if heads is None:
        return tensor
    halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, tensor.shape[1])
    return halves.transpose(1, 2).reshape(tensor.shape).contiguous()
