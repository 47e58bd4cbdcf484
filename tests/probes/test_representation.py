import math

import numpy as np
import pytest
import torch

from gcwm_viz.errors import InputError
from gcwm_viz.probes.encoding import encode_prompt
from gcwm_viz.probes.representation import RepresentationProbe
from gcwm_viz.probes.tasks import LabelledTask
from tests.probes.models import bpe_tokenizer, tiny_lab, tiny_llama

WORDS = ["ab", "cat", "hello", "x1", "zebra crossing", "t", "mat", "long text here"]


def test_pooling_equals_one_text_at_a_time() -> None:
    tokenizer = bpe_tokenizer()
    model = tiny_llama(len(tokenizer))
    rows = [encode_prompt(tokenizer, word) for word in WORDS]
    probe = RepresentationProbe(tokenizer, [], batch_size=3)
    pooled = probe.pooled(model, rows)
    assert pooled.shape == (3, len(WORDS), 32)
    for i, row in enumerate(rows):
        with torch.no_grad():
            states = model(input_ids=torch.tensor([row]), output_hidden_states=True).hidden_states
        expected = torch.stack([s[0].mean(0) for s in states])
        torch.testing.assert_close(pooled[:, i], expected, rtol=1e-4, atol=1e-5)


def test_readable_labels_are_read_and_shuffled_ones_are_not() -> None:
    model, tokenizer = tiny_lab()
    rng = np.random.default_rng(0)
    texts = tuple("".join(rng.choice(list("abcdef"), 6)) + ("0" if i % 2 else "") for i in range(100))
    labels = tuple("with" if i % 2 else "without" for i in range(100))
    shuffled = tuple(rng.permutation(labels).tolist())
    rows = RepresentationProbe(
        tokenizer, [LabelledTask("zero", texts, labels), LabelledTask("noise", texts, shuffled)]
    ).score(model)
    assert [(r["dataset"], r["layer"]) for r in rows] == [(d, k) for d in ("zero", "noise") for k in range(3)]
    by_set = {d: [r for r in rows if r["dataset"] == d] for d in ("zero", "noise")}
    assert by_set["zero"][0]["accuracy"] > 0.95
    for row in by_set["noise"]:
        # Chance is 0.5 with a standard error of 0.05.
        assert abs(row["accuracy"] - 0.5) < 0.2
    row = by_set["noise"][1]
    assert row["n"] == 100
    assert row["chance"] == 0.5
    assert row["se"] == pytest.approx(math.sqrt(row["accuracy"] * (1 - row["accuracy"]) / 100))


def test_same_seed_same_rows() -> None:
    model, tokenizer = tiny_lab()
    task = LabelledTask("s", tuple(f"{i}{i * 7 % 13}" for i in range(40)), tuple("xyz"[i % 3] for i in range(40)))
    assert RepresentationProbe(tokenizer, [task]).score(model) == RepresentationProbe(tokenizer, [task]).score(model)
    assert RepresentationProbe(tokenizer, [task]).score(model)[0]["chance"] == 14 / 40


def test_a_rare_class_gets_fewer_folds() -> None:
    model, tokenizer = tiny_lab()
    labels = ("rare",) * 3 + ("common",) * 20
    probe = RepresentationProbe(tokenizer, [LabelledTask("s", tuple(f"t{i}" for i in range(23)), labels)])
    assert len(probe._splits[0]) == 3
    assert all(math.isfinite(row["accuracy"]) for row in probe.score(model))


def test_broken_weights_give_nan() -> None:
    model, tokenizer = tiny_lab()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = math.inf
    task = LabelledTask("s", tuple(f"t{i}" for i in range(10)), ("a", "b") * 5)
    accuracies = [row["accuracy"] for row in RepresentationProbe(tokenizer, [task]).score(model)]
    assert [math.isnan(a) for a in accuracies] == [False, False, True]


def test_empty_text_is_named() -> None:
    with pytest.raises(InputError, match="labelled set 's': expected at least one token"):
        RepresentationProbe(
            bpe_tokenizer(opening=False), [LabelledTask("s", ("a", "", "b", "c"), ("x", "y", "x", "y"))]
        )
