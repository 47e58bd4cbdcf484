"""Attribution on every architecture that is tested elsewhere: complete in each layout."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gcwm_viz.attribution.path import StatePath, split_loss
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.probes.live import LiveModel
from gcwm_viz.probes.tasks import PromptTask
from tests.checkpoints import tiny
from tests.export import runs


class TokenLoss:
    """Next-token loss of fixed tokens, in place of a task's: these models have no words."""

    task = PromptTask("tokens", "dev", ("a",), ("b",))
    tokens = torch.arange(3, 27).reshape(4, 6)

    def parts(self, model: torch.nn.Module, device: torch.device) -> Iterator[Tensor]:
        logits: Tensor = model(self.tokens).logits
        yield cross_entropy(logits[:, :-1].flatten(0, 1).float(), self.tokens[:, 1:].flatten())


def _without_choice(index: CheckpointIndex) -> CheckpointIndex:
    """Every token takes all experts: the loss jumps where a router chooses others, and no integral has the jump."""
    file = index.root / "config.json"
    config = json.loads(file.read_text())
    if "num_experts_per_tok" in config:
        experts = config.get("num_experts") or config["num_local_experts"]
        file.write_text(json.dumps(config | {"num_experts_per_tok": experts}))
    return CheckpointIndex.open(index.root)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_it_is_complete_in_every_layout(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    index = _without_choice(runs.base(tmp_path, name, dtype))
    store = runs.finished(index, runs.experts(index, tmp_path, dtype), tmp_path / "run")
    live = LiveModel(store, runs.CPU, torch.float32)
    ends = [live.updates(("step", step, "")) for step in (1, 2)]
    loss: Any = TokenLoss()
    split = split_loss(StatePath(live.merged, *ends), loss)
    measured = []
    for step in (1, 2):
        live.set(("step", step, ""))
        with torch.no_grad():
            measured.append(float(sum(loss.parts(live.model, runs.CPU))))
    assert split.change == pytest.approx(measured[1] - measured[0], abs=1e-5)  # float32 losses of about 4 nats
    assert split.converged
    # 4 nats in float32, and the sum of some 14 inner products of gradients as exact as that
    assert abs(sum(split.values) - (measured[1] - measured[0])) <= split.residual + 1e-5
    assert sum(value != 0 for value in split.values) == len(store.keys)
