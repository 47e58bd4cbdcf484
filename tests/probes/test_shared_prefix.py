"""What all rows of a batch begin with passes the model once: the same logits and gradients, on every architecture."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gcwm_viz.probes import batches
from gcwm_viz.probes.batches import IGNORED, Batch, Row, batches_of
from gcwm_viz.probes.behaviour import BehaviourProbe, keeps_tail, tail_logits
from gcwm_viz.probes.loss import TaskLoss
from gcwm_viz.probes.tasks import PromptTask
from tests.checkpoints import tiny
from tests.probes.models import bpe_tokenizer, tiny_llama

PREFIX = [1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 3, 7]
ROWS = [
    Row(0, [*PREFIX, 4], [6, 2]),
    Row(1, [*PREFIX, 8, 10, 12], [2]),
    Row(2, [*PREFIX, 8, 10], [14, 16, 2]),
    Row(3, [*PREFIX, 39, 4, 4, 4, 8], [30, 2]),
]
OTHERS = {"mistral", "gpt-oss", "llama4", "gemma2", "gemma3", "mamba2", "bamba"}
"""Kinds of which a layer keeps a window or chunk of keys and values, or a recurrent state."""
DECODERS = [*tiny.CONFIGS, "mamba2", "bamba", "deepseek-v3"]


def batch_of(rows: list[Row], monkeypatch: pytest.MonkeyPatch, *, shared: bool) -> Batch:
    with monkeypatch.context() as patch:
        if not shared:
            patch.setattr(batches, "SHARED_TOKENS", 10**9)
        (batch,) = batches_of(rows, 64, 40, 0)
    return batch


def labelled(model: Any, batch: Batch) -> dict[tuple[int, int], Tensor]:
    """Logits (v,) of every scored token, by request and place in its answer."""
    logits = tail_logits(model, batch, "cpu", keeps_tail(model))
    found: dict[tuple[int, int], Tensor] = {}
    for k, request in enumerate(batch.rows.tolist()):
        places = (batch.labels_bl[k, -batch.tail :] != IGNORED).nonzero()[:, 0].tolist()
        found |= {(request, at): logits[k, place] for at, place in enumerate(places)}
    return found


@pytest.mark.parametrize("kind", DECODERS)
def test_logits_are_those_of_whole_rows(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.model(kind)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(10.0)  # small random weights would hardly look at what comes before a token
    lengths: list[tuple[int, ...]] = []
    embeddings = model.get_input_embeddings()
    embeddings.register_forward_hook(lambda _m, inputs, _o: lengths.append(tuple(inputs[0].shape)))
    whole, shared = (batch_of(ROWS, monkeypatch, shared=each) for each in (False, True))
    assert shared.prefix == PREFIX
    assert whole.prefix == []
    assert shared.whole_shape == whole.whole_shape == tuple(whole.ids_bl.shape)
    with torch.no_grad():
        expected = labelled(model, whole)
        lengths.clear()
        found = labelled(model, shared)
    assert found.keys() == expected.keys()
    assert len(found) == sum(len(row.end) for row in ROWS)
    with torch.no_grad():
        without = labelled(model, replace(shared, prefix=[]))
    for key, logits in found.items():
        # The network's condition is unknown: far above its rounding, and far below what the prefix does.
        size = float(expected[key].norm())
        assert float((logits - expected[key]).norm()) <= 1e-4 * size
        assert float((without[key] - expected[key]).norm()) >= 1e-2 * size
    # The prefix alone and then the rest; where the model keeps more than keys and values, the whole rows.
    rest = whole.ids_bl.shape[1] if kind in OTHERS else shared.ids_bl.shape[1]
    assert lengths[:2] == [(1, len(PREFIX)), (len(ROWS), rest)]


def test_a_prefix_is_shared_where_that_saves_enough() -> None:
    def prefix(rows: list[Row]) -> list[int]:
        return batches_of(rows, 64, 40, 0)[0].prefix

    assert prefix(ROWS[:1]) == []  # one row
    assert prefix([Row(0, [1, 5], [2]), Row(1, [1, 5], [2])]) == []  # too short
    assert prefix([Row(0, PREFIX, [2]), Row(1, PREFIX, [4])]) == PREFIX[:-1]  # the last token predicts the answer
    far = [Row(k, [*PREFIX, *([k + 4] * 200)], [2]) for k in range(2)]
    assert prefix(far) == []  # a few tokens of many


def test_scores_and_gradients_are_those_of_whole_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = bpe_tokenizer()
    model: Any = tiny_llama(len(tokenizer))
    start = "1 + 2 = 3 at 1 + 2 = 3 the "
    task = PromptTask(
        "t", "dev", tuple(start + text for text in ("cat", "mat", "hat on", "cat sat")), ("a", "b", "c a", "d")
    )

    def measured() -> tuple[Any, list[Tensor], bool]:
        probe, loss = BehaviourProbe(tokenizer, [task]), TaskLoss(tokenizer, task)
        model.zero_grad()
        for part in loss.parts(model, torch.device("cpu")):
            part.backward()
        (values,) = probe.measure(model)
        return values.metrics, [p.grad.clone() for p in model.parameters()], any(b.prefix for b in probe.batches)

    metrics, gradients, shared = measured()
    monkeypatch.setattr(batches, "SHARED_TOKENS", 10**9)
    expected, whole, unshared = measured()
    assert (shared, unshared) == (True, False)
    assert torch.equal(metrics["em"], expected["em"])
    # The network's condition is unknown; a lost or doubled contribution changes the first digit.
    torch.testing.assert_close(metrics["nll"], expected["nll"], rtol=1e-4, atol=1e-5)
    for found, other in zip(gradients, whole, strict=True):
        assert float((found - other).norm()) <= 1e-3 * float(other.norm())
