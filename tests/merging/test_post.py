"""SVC and LiNeS: their formulas, what stays factored, and that steps and final states agree."""

from typing import Any

import pytest
import torch

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.final import final_state
from gcwm_viz.continual.result import process_matrix
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import LowRank, dense
from gcwm_viz.merging.merge import BLEND, Branch, Merge
from gcwm_viz.merging.post import scaled_by_depth, svc
from gcwm_viz.merging.registry import METHODS
from gcwm_viz.updates.matrices import MatrixKey
from tests import oracles
from tests.factories import low_rank_updates, orthogonal, updates
from tests.merging.steps import close
from tests.rounding import rounding

KEY = MatrixKey("model.layers.2.mlp.up_proj.weight", 2, "up_proj", (14, 10))
NAMES = ["a", "b", "c"]
LAYERS = 5
POSTS: list[dict[str, Any]] = [{"post": "svc"}, {"post": "svc", "svc_alpha": 0.2}, {"post": "lines"}]
BOUND = 1e3 * rounding(14)
"""Singular vectors are as exact as the gaps between singular values."""


@pytest.mark.parametrize("alpha", [1.0, 0.3, 0.01])
@pytest.mark.parametrize("shape", [(9, 7), (7, 9), (8, 8)])
def test_svc_against_its_formula(alpha: float, shape: tuple[int, int]) -> None:
    stack = updates(3, *shape, seed=1, dtype=torch.float64)
    for merged in (stack.sum(0), stack.mean(0), stack[0] - stack[1]):
        found = svc(Merge.of(merged), list(stack), alpha).merged
        close(found, oracles.svc(merged.numpy(), stack.numpy(), alpha), BOUND)


def test_svc_undoes_what_is_counted_twice_and_leaves_the_rest() -> None:
    left, right = orthogonal(9, 1), orthogonal(8, 2)
    shared, own = left[:, :2] @ right[:, :2].mT, 3 * left[:, 2:4] @ right[:, 2:4].mT
    deltas = [shared, shared + own]
    close(svc(Merge.of(deltas[0] + deltas[1]), deltas, 1.0).merged, shared + own, BOUND)
    lone = updates(1, 9, 8, seed=2, dtype=torch.float64)
    close(svc(Merge.of(lone[0]), list(lone), 1.0).merged, lone[0], BOUND)
    zero = Merge.of(torch.zeros(9, 8, dtype=torch.float64))
    assert svc(zero, deltas, 1.0) is zero


def test_svc_of_adapters_is_factored_and_that_of_their_matrices() -> None:
    thin = low_rank_updates(3, 14, 10, 2, seed=3, dtype=torch.float64)
    merged = LowRank(torch.cat([d.left_or for d in thin], dim=1), torch.cat([d.right_ri for d in thin]))
    found = svc(Merge.of(merged), thin, 0.5).merged
    assert isinstance(found, LowRank)
    assert found.right_ri is merged.right_ri
    written = svc(Merge.of(merged.dense()), [delta.dense() for delta in thin], 0.5).merged
    close(found.dense(), written, BOUND)


def test_branches_mix_to_the_step_of_their_mixture() -> None:
    stack = updates(4, 9, 7, seed=4, dtype=torch.float64)
    branches = {"plain": Branch(stack[2]), "geo": Branch(stack[3])}
    for alpha, mode in ((0.3, BLEND), (0.97, "geo"), (0.02, "plain")):
        merge = Merge(branches=branches, alpha=alpha, mode=mode)
        alone = svc(Merge.of(merge.merged), list(stack[:2]), 0.4).merged
        close(svc(merge, list(stack[:2]), 0.4).merged, alone, BOUND)
        close(scaled_by_depth(merge, 1, 3, 0.2, 0.4).merged, 0.4 * dense(merge.merged))


@pytest.mark.parametrize(("layer", "factor"), [(0, 0.2), (1, 0.4), (2, 0.6), (3, 0.8)])
def test_lines_grows_from_the_first_layer_to_the_last(layer: int, factor: float) -> None:
    merge = scaled_by_depth(Merge.of(torch.ones(2, 2)), layer, 4, 0.2, 0.6)
    close(merge.merged, torch.full((2, 2), factor), 1e-6)
    close(scaled_by_depth(Merge.of(torch.ones(2, 2)), 0, 1, 0.2, 0.6).merged, torch.full((2, 2), 0.8), 1e-6)


@pytest.mark.parametrize("post", POSTS, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_final_states_are_those_of_the_steps(method: str, post: dict[str, Any]) -> None:
    full, thin = list(updates(3, *KEY.shape, seed=5)), low_rank_updates(3, *KEY.shape, 2)
    for more in ({"eta": 0.4}, {"policy": "current_anchor"}, {"decay": 0.7}):
        settings = RunSettings.preset_with("scale-free", post | more, method)
        for deltas in (full, thin, [full[0], None, thin[2]], [None, None, None]):
            result = process_matrix(KEY, NAMES, deltas, settings, layers=LAYERS)
            state = dense(final_state(KEY, NAMES, deltas, settings, LAYERS))
            norm = result.rows["matrices"][-1]["state_norm"]
            assert norm == pytest.approx(float(state.double().norm()), rel=1e-6)


@pytest.mark.parametrize("method", ["dop", "opcm", "wudi", "gcwm"])
def test_lines_acts_once_however_many_steps_there_are(method: str) -> None:
    """A sequential method and an anchor get the merge before the step."""
    deltas = list(updates(3, *KEY.shape, seed=6))
    for policy in ("all_history", "current_anchor"):
        states = {}
        for post in ("none", "lines"):
            settings = RunSettings.preset_with("scale-free", {"post": post, "policy": policy}, method)
            states[post] = dense(final_state(KEY, NAMES, deltas, settings, LAYERS))
        torch.testing.assert_close(states["lines"], 0.75 * states["none"], rtol=1e-5, atol=1e-7)  # 0.5 + 0.5 · 2/4


def test_adapters_stay_factored_in_a_run() -> None:
    thin = low_rank_updates(3, *KEY.shape, 2)
    for method in ("gcwm", "wudi", "iso-c", "tsv-m", "dop"):
        for post in POSTS:
            settings = RunSettings.preset_with("scale-free", post, method)
            assert isinstance(final_state(KEY, NAMES, thin, settings, LAYERS), LowRank), (method, post)


def test_weights_are_the_users() -> None:
    """An update with ω = 2 is counted twice on purpose."""
    delta = updates(1, *KEY.shape, seed=7)[0]
    settings = RunSettings.preset_with("scale-free", {"post": "svc", "new_weight": 2.0}, "task-arithmetic")
    state = dense(final_state(KEY, ["a"], [delta], settings))
    torch.testing.assert_close(state, 2 * delta, rtol=1e-5, atol=1e-7)


def test_settings() -> None:
    settings = RunSettings.preset_with("paper", {"post": "svc", "svc_alpha": 0.25, "lines_beta": 1}, "ties")
    assert RunSettings.from_dict(settings.to_dict()) == settings
    values = settings.to_dict()
    for name in ("post", "svc_alpha", "lines_alpha", "lines_beta"):
        del values["continual"][name]
    assert RunSettings.from_dict(values).continual.post == "none"  # a run of an earlier version
    with pytest.raises(InputError, match="setting post must be one of none, svc, lines, got 'SVC'"):
        RunSettings.preset_with("paper", {"post": "SVC"})
    with pytest.raises(InputError, match="setting svc_alpha must be"):
        RunSettings.preset_with("paper", {"svc_alpha": 0})
