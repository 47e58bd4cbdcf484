"""A tiny random model on disk with updates of it, for runs in tests."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.factories import generator, updates

FAMILIES = {
    "self_attn.q_proj": (16, 12),
    "self_attn.v_proj": (8, 12),
    "mlp.up_proj": (20, 12),
    "mlp.down_proj": (12, 20),
}
LAYERS = 2


def matrix_names() -> list[str]:
    return [f"model.layers.{layer}.{family}.weight" for layer in range(LAYERS) for family in FAMILIES]


def write_base(folder: Path) -> Path:
    folder.mkdir(parents=True)
    rng = generator(99)
    tensors = {
        f"model.layers.{layer}.{family}.weight": torch.randn(*shape, generator=rng)
        for layer in range(LAYERS)
        for family, shape in FAMILIES.items()
    }
    tensors["model.embed_tokens.weight"] = torch.randn(30, 12, generator=rng)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "qwen3", "num_hidden_layers": 2}')
    return folder


def write_updates(root: Path, names: str, *, absent: tuple[str, str] | None = None) -> list[tuple[str, Path]]:
    """One folder of update tensors a letter; ``absent`` = (update, family) leaves that family out of one."""
    listed = []
    for place, name in enumerate(names):
        tensors = {}
        for number, matrix in enumerate(matrix_names()):
            family = matrix.split(".", 3)[3].removesuffix(".weight")
            if absent != (name, family):
                tensors[matrix] = updates(1, *FAMILIES[family], seed=100 * place + number)[0]
        (root / name).mkdir(parents=True)
        save_file(tensors, root / name / "update.safetensors", metadata={"gcwm_viz": "update"})
        listed.append((name, root / name))
    return listed
