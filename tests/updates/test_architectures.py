"""The table of architectures in docs/models.md, row by row."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.updates.matrices import target_matrices
from gcwm_viz.updates.pairing import open_update, plan
from tests.checkpoints import tiny

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "models.md"
ROW = re.compile(r"^\| `(?P<type>\w+)`[^|]*\| (?P<families>(?:`[\w.]+` ?)+)\|$", re.MULTILINE)
TABLE = {
    row["type"]: re.findall(r"`([\w.]+)`", row["families"])
    for row in ROW.finditer(DOCUMENT.read_text(encoding="utf-8"))
}
MODELS = {make().model_type: name for name, make in tiny.CONFIGS.items()}


def test_the_table_lists_what_is_tested() -> None:
    assert TABLE.keys() == MODELS.keys()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", TABLE)
def test_every_row_is_what_a_model_of_its_kind_has(kind: Any, dtype: torch.dtype, tmp_path: Path) -> None:
    """Families in their order, both layers; a full checkpoint of the same kind pairs with every matrix and differs."""
    base = CheckpointIndex.open(tiny.save(tiny.model(MODELS[kind]).to(dtype), tmp_path / "base"))
    keys = target_matrices(base)
    for layer in (0, 1):
        families = [re.sub(r"\.\d+\.", ".N.", key.family) for key in keys if key.layer == layer]
        assert list(dict.fromkeys(families)) == TABLE[kind]
    expert = open_update("x", tiny.save(tiny.model(MODELS[kind], seed=1).to(dtype), tmp_path / "expert"), base)
    found = plan(base, [expert])
    assert found.active == keys
    assert found.warnings == []
    own, other = tiny.matrices(base.root), tiny.matrices(expert.path)
    for key in keys:
        delta = expert.delta(key)
        assert isinstance(delta, torch.Tensor)
        assert delta.shape == key.shape
        assert torch.equal(key.from_linear(delta), other[key.name].float() - own[key.name].float())
