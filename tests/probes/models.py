"""Small models and tokenizers to probe: random weights, so nothing about them is special."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen3ForCausalLM

from gcwm_viz.experiments.lab.model import ModelShape, build_tokenizer, new_model

TEXT = ["the cat sat on the mat", "the capital of the land", "a cat, a mat and a hat", "1 + 2 = 3", "at that hat"]


def bpe_tokenizer(*, eos: bool = True, opening: bool = True, closing: bool = False) -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer without a padding token, whose merges would straddle prompt and answer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    if opening:
        shape = "<s> $A </s>" if closing else "<s> $A"
        tokenizer.post_processor = processors.TemplateProcessing(single=shape, special_tokens=[("<s>", 0), ("</s>", 1)])
    names = {"bos_token": "<s>", "eos_token": "</s>"} if eos else {"bos_token": "<s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def tiny_llama(vocabulary: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.5, generator=generator)
    model.eval()
    return model


def tiny_lab() -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]:
    shape = ModelShape(hidden=32, intermediate=48, layers=2, heads=2, kv_heads=1, head_dim=16, initializer_range=0.5)
    return new_model(shape, torch.Generator().manual_seed(1)).eval(), build_tokenizer()
