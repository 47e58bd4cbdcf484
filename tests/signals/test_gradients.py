import math
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from gcwm_viz.errors import InputError
from gcwm_viz.signals.gradients import family_comparison, gradient_conflict, gradient_cosines, task_gradients

NAMES = ["a.weight", "b.weight"]


def test_gradients_are_those_of_autograd_and_nothing_is_left_behind() -> None:
    model: Any = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    model[1].weight.grad = torch.ones(2, 4)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    losses = {"up": lambda: model(x).sum(), "down": lambda: -model(x).sum(), "twice": lambda: 2 * model(x).sum()}
    names = ["0.weight", "1.weight"]
    gradients = task_gradients(model, losses, names)
    assert torch.allclose(gradients["up"][0], (x.sum(0)[None, :] * model[1].weight.sum(0)[:, None]), atol=1e-5)
    cosines = gradient_cosines(gradients, names)
    known = {(row.matrix, row.i, row.j): row.cosine for row in cosines.itertuples()}
    for name in names:
        assert known[name, "up", "down"] == pytest.approx(-1.0, abs=1e-6)
        assert known[name, "up", "twice"] == pytest.approx(1.0, abs=1e-6)
    assert not model[0].weight.requires_grad
    assert torch.equal(model[1].weight.grad, torch.ones(2, 4))


def test_known_angles_and_their_summary() -> None:
    def matrix(angle: float) -> Tensor:
        return torch.tensor([[math.cos(angle), math.sin(angle)]])

    gradients = {
        "t0": [matrix(0.0), matrix(0.0)],
        "t1": [3 * matrix(math.pi / 3), matrix(math.pi / 2)],
        "t2": [matrix(math.pi), matrix(math.pi / 4)],
    }
    cosines = gradient_cosines(gradients, NAMES)
    assert cosines["cosine"].to_numpy() == pytest.approx([0.5, -1.0, -0.5, 0.0, 0.5**0.5, 0.5**0.5], abs=1e-7)
    summary = gradient_conflict(cosines).set_index("matrix")
    assert summary.loc["a.weight"].to_numpy() == pytest.approx([-1 / 3, -1.0, 2 / 3], abs=1e-7)
    assert summary.loc["b.weight", "gradient_negative"] in (0.0, pytest.approx(1 / 3))


def test_a_zero_gradient_is_undefined_not_orthogonal() -> None:
    gradients = {"t0": [torch.ones(2, 2)], "t1": [torch.zeros(2, 2)]}
    cosines = gradient_cosines(gradients, NAMES[:1])
    assert math.isnan(cosines["cosine"][0])
    assert cosines["reason"][0] == "the gradient of t1 is zero"
    assert gradient_conflict(cosines)[["gradient_mean", "gradient_min", "gradient_negative"]].isna().all(axis=None)


def test_a_single_task_has_no_pairs() -> None:
    cosines = gradient_cosines({"t0": [torch.ones(2, 2)]}, NAMES[:1])
    assert cosines.empty
    assert gradient_conflict(cosines).empty


def test_unknown_parameter() -> None:
    with pytest.raises(InputError, match=r"parameter 'missing\.weight'"):
        task_gradients(torch.nn.Linear(2, 2), {}, ["missing.weight"])


def test_families_of_the_top_cells() -> None:
    cells = pd.DataFrame(
        {
            "family": ["q", "q", "v", "v", "o", "o"],
            "conflict": [0.9, 0.8, 0.1, 0.7, 0.2, float("nan")],
            "gradient_mean": [-0.9, 0.5, -0.8, -0.7, 0.4, -1.0],
        }
    )
    shares = family_comparison(cells, 3).set_index("family")
    assert shares["conflict"].to_dict() == pytest.approx({"q": 2 / 3, "v": 1 / 3, "o": 0.0})
    assert shares["gradient"].to_dict() == pytest.approx({"q": 1 / 3, "v": 2 / 3, "o": 0.0})
    assert shares["expected"].to_dict() == pytest.approx({"q": 0.4, "v": 0.4, "o": 0.2})
    more = family_comparison(cells, 100)
    assert more[["conflict", "gradient", "expected"]].sum().to_numpy() == pytest.approx([1, 1, 1])
    with pytest.raises(InputError, match="at least 1"):
        family_comparison(cells, 0)
