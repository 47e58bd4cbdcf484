"""Small finished runs over tiny random models of real architectures."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.store import RunStore
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from gcwm_viz.updates.matrices import target_matrices
from tests.checkpoints import tiny
from tests.probes.models import bpe_tokenizer

CPU = torch.device("cpu")
CHAT = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% endfor %}"


def base(root: Path, name: str, dtype: torch.dtype = torch.float32) -> CheckpointIndex:
    """A model on disk with a tokenizer, a chat template and a card that states a licence."""
    folder = tiny.save(tiny.model(name).to(dtype), root / "base")
    tokenizer = bpe_tokenizer()
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: [en]\nother: x\n---\n# Base\n")
    return CheckpointIndex.open(folder)


def experts(
    index: CheckpointIndex, root: Path, dtype: torch.dtype, rank: int | None = None, scale: float = 0.02
) -> list[tuple[str, Path]]:
    """Two full checkpoints beside the base, moved in every target matrix, by ``rank`` where one is given."""
    generator = torch.Generator().manual_seed(7)
    listed = []
    for name in ("one", "two"):
        content = tiny.matrices(index.root)
        for key in target_matrices(index):
            rows, columns = key.stored_shape
            inner = min(key.shape) if rank is None else rank
            left, right = (torch.randn(shape, generator=generator) for shape in ((rows, inner), (inner, columns)))
            content[key.name].copy_((content[key.name].float() + scale * left @ right).to(dtype))
        tiny.store(root / name, {tensor: content[tensor] for tensor in index.tensors})
        (root / name / "config.json").write_text(json.dumps(index.config))
        listed.append((name, root / name))
    return listed


def finished(
    index: CheckpointIndex,
    updates: list[tuple[str, Path]],
    out: Path,
    method: str = "gcwm",
    strengths: Mapping[str, float] | None = None,
    **settings: object,
) -> RunStore:
    inputs = Inputs(base=index.root, updates=updates, strengths=strengths or {})
    store = create_run(inputs, out, RunSettings.preset_with("scale-free", settings, method))
    continue_run(store, CPU, workers=1)
    return store
