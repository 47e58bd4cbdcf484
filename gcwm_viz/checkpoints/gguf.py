"""Weights in a GGUF file, read and dequantised by transformers, as a checkpoint folder in safetensors."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from gcwm_viz.checkpoints.atomic import atomic_folder
from gcwm_viz.errors import InputError


def check_reader() -> None:
    """Raises InputError without the package gguf, with which transformers reads such files."""
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise InputError(
            "reading a GGUF file needs the package gguf, found none; expected `pip install gguf` first"
        ) from None


def convert(gguf: Path, out: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    """A GGUF as a checkpoint that transformers loads: dequantised, in ``dtype``, with tokenizer and chat template.

    `out` appears complete or not at all. Raises InputError for a file that transformers cannot read.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    check_reader()
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                gguf.parent, gguf_file=gguf.name, local_files_only=True, trust_remote_code=False
            )
            model: Any = AutoModelForCausalLM.from_pretrained(
                gguf.parent,
                gguf_file=gguf.name,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
            )
    except (ValueError, KeyError, IndexError, RuntimeError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{gguf}: expected a GGUF that transformers reads, found one it refuses ({reason})") from None
    # Dequantised on reading, but still marked as quantised, which transformers refuses to save.
    model.hf_quantizer, model.is_quantized = None, False
    for holder, mark in ((model, "quantization_method"), (model.config, "quantization_config")):
        if hasattr(holder, mark):
            delattr(holder, mark)
    with atomic_folder(out) as folder, _quiet():
        model.to(dtype).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return out


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """transformers without its progress bars; `report` has said what is being done."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()
