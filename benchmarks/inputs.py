"""Shapes of Qwen3 models and random updates of them."""

from pathlib import Path

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, int]]


def qwen3(hidden: int, intermediate: int, q: int, kv: int) -> Shapes:
    """(d_out, d_in) of the seven matrices of a decoder block."""
    return {
        "self_attn.q_proj": (q, hidden),
        "self_attn.k_proj": (kv, hidden),
        "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, q),
        "mlp.gate_proj": (intermediate, hidden),
        "mlp.up_proj": (intermediate, hidden),
        "mlp.down_proj": (hidden, intermediate),
    }


QWEN3_06B = qwen3(1024, 3072, 2048, 1024)
QWEN3_8B = qwen3(4096, 12288, 4096, 1024)
TINY = qwen3(48, 96, 64, 32)
RMS = 2e-3
"""Root mean square of the entries: that of 256 × 256 updates of norm 0.5."""


def random_update(
    shape: tuple[int, int], seed: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Tensor:
    """Half its energy in 24 directions, whose right sides updates share in part, half in noise of full rank."""
    d_out, d_in = shape
    rng = torch.Generator(device).manual_seed(seed)
    common = torch.Generator(device).manual_seed(0)

    def normal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
        return torch.randn(rows, columns, generator=generator, device=device)

    rank = min(24, d_out, d_in)
    right = normal(rank, d_in, rng) + normal(rank, d_in, common)
    strength = 0.85 ** torch.arange(rank, device=device)
    strong = (normal(d_out, rank, rng) * strength) @ right
    noise = normal(d_out, d_in, rng)
    update: Tensor = (RMS * 0.5**0.5 * (strong / strong.std() + noise)).to(dtype)
    return update


def write_model(folder: Path, shapes: Shapes, layers: int, updates: int, dtype: torch.dtype = torch.float16) -> None:
    """``folder/base`` and full checkpoints ``folder/1`` …, random; one layer in memory at a time, one file per
    layer."""
    import json

    from safetensors.torch import save_file  # the GPU benchmark runs without

    for name in ("base", *(str(index) for index in range(1, updates + 1))):
        root = folder / name
        root.mkdir(parents=True)
        (root / "config.json").write_text(json.dumps({"model_type": "qwen3", "num_hidden_layers": layers}))
        files: dict[str, str] = {}
        for layer in range(layers):
            file = f"model-{layer + 1:05d}-of-{layers:05d}.safetensors"
            tensors = {}
            for index, (module, shape) in enumerate(shapes.items()):
                rng = torch.Generator().manual_seed(1000 * layer + index)
                weight = 0.02 * torch.randn(shape, generator=rng)
                if name != "base":
                    weight += random_update(shape, 100_000 * int(name) + 1000 * layer + index)
                tensors[f"model.layers.{layer}.{module}.weight"] = weight.to(dtype)
            save_file(tensors, root / file, metadata={"format": "pt"})
            files |= dict.fromkeys(tensors, file)
        (root / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
