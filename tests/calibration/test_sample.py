"""The draw of probes: nested, disjoint, by seed and name."""

import pytest

from gcwm_viz.calibration.sample import LEAST, draw
from gcwm_viz.probes.loss import LossTask
from gcwm_viz.probes.tasks import ChoiceTask, PromptTask, TextTask

TASKS: list[LossTask] = [
    PromptTask("sums", "dev", tuple(f"p{k}" for k in range(20)), tuple(f"a{k}" for k in range(20))),
    ChoiceTask("quiz", "dev", ("q", "r", "s"), (("a", "b"),) * 3, (0, 1, 0)),
    TextTask("reading", "dev", tuple(f"t{k}" for k in range(8))),
]


def test_fitted_and_held_out_are_disjoint_and_complete() -> None:
    sample = draw(TASKS, 0.25, None, 0)
    assert sample.counts == {
        "sums": {"fitted": 15, "held_out": 5},
        "quiz": {"fitted": 3, "held_out": 0},  # one would be fewer than LEAST
        "reading": {"fitted": 6, "held_out": 2},
    }
    fitted, held = sample.fitted[0], sample.held_out[0]
    assert isinstance(fitted, PromptTask)
    assert isinstance(held, PromptTask)
    whole = TASKS[0]
    assert isinstance(whole, PromptTask)
    assert sorted(fitted.prompts + held.prompts) == sorted(whole.prompts)
    pairs = set(zip(whole.prompts, whole.answers, strict=True))
    assert set(zip(fitted.prompts, fitted.answers, strict=True)) <= pairs


@pytest.mark.parametrize("most", [1, 2, 3, 4, 8, 99])
def test_more_probes_contain_fewer(most: int) -> None:
    def used(count: int) -> set[str]:
        sample = draw(TASKS[:1], 0.25, count, 3)
        tasks = [task for task in (*sample.fitted, *sample.held_out) if isinstance(task, PromptTask)]
        return {prompt for task in tasks for prompt in task.prompts}

    assert len(used(most)) == min(most, 20)
    assert used(most) <= used(most + 1)
    assert bool(draw(TASKS[:1], 0.25, most, 3).held_out) == (round(0.25 * min(most, 20)) >= LEAST)


def test_the_seed_and_the_name_decide() -> None:
    one, same, other = (draw(TASKS[:1], 0.25, 8, seed).fitted for seed in (0, 0, 1))
    assert one == same != other
    beside = draw(list(reversed(TASKS)), 0.25, 8, 0).fitted[-1]
    assert beside == one[0]  # other tasks change nothing


def test_nothing_held_out() -> None:
    assert draw(TASKS, 0.0, None, 0).held_out == []
