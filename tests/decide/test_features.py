"""Features of plans: what must be zero, what must not depend on an order, and what was not measured."""

from dataclasses import replace

import numpy as np
import pytest

from gcwm_viz.decide.features import NEEDS, SCALES, Needs, features
from gcwm_viz.decide.knowledge import Array, Knowledge
from tests.factories_decide import all_plans, make_knowledge, permuted

PLANS = all_plans(3, (0.0, 1 / 3, 1.0))


def by_name(known: Knowledge, plans: Array | list[list[float]], needs: Needs = "labels") -> dict[str, Array]:
    names, values = features(known, np.asarray(plans, dtype=float), needs)
    return {name: values[..., f] for f, name in enumerate(names)}


@pytest.mark.parametrize("needs", NEEDS)
def test_the_base_has_no_feature(needs: Needs) -> None:
    names, values = features(make_knowledge(), np.zeros((1, 3)), needs)
    assert values.shape == (1, 3, len(names))
    assert len(set(names)) == len(names)
    assert (values == 0).all()


@pytest.mark.parametrize("needs", NEEDS)
def test_the_order_of_updates_tasks_and_plans_does_not_matter(needs: Needs) -> None:
    known = make_knowledge(3)
    updates, tasks, plans = [2, 0, 1], [1, 2, 0], list(range(len(PLANS)))[::-1]
    _, before = features(known, PLANS, needs)
    _, after = features(permuted(known, updates, tasks), PLANS[np.ix_(plans, updates)], needs)
    assert after == pytest.approx(before[np.ix_(plans, tasks)])


@pytest.mark.parametrize("needs", NEEDS)
def test_an_update_that_is_left_out_says_nothing(needs: Needs) -> None:
    """Its numbers may be anything, and its column may be missing."""
    known = make_knowledge(3)
    other = make_knowledge(3, seed=9)
    swapped = replace(
        known,
        relative_norm=np.append(known.relative_norm[:2], other.relative_norm[2]),
        kl=np.concatenate([known.kl[:2], other.kl[2:]]),
        solo=np.concatenate([known.solo[:2], other.solo[2:]]),
    )
    plans = PLANS[PLANS[:, 2] == 0]
    _, before = features(known, plans, needs)
    _, after = features(swapped, plans, needs)
    _, without = features(permuted(known, [0, 1], [0, 1, 2]), plans[:, :2], needs)
    assert after == pytest.approx(before)
    assert without == pytest.approx(before)


def test_the_carrier_is_the_update_that_gains_most_whatever_it_claims() -> None:
    known = make_knowledge(2, tasks=2)
    solo = np.tile(known.base[:, None], (2, 1, 2))
    solo[0, 1, 1] = known.base[1] + 0.4  # the first, for task 0, brings task 1
    solo[1, 1, 1] = known.base[1] + 0.1
    known = replace(known, solo=solo)
    scored = by_name(known, [[1, 1], [1, 0], [0, 1]])
    assert scored["gain"] == pytest.approx(np.array([[0, 0.4], [0, 0.4], [0, 0.1]]))
    # The other's gain adds to the carrier's where nothing is in its way.
    assert scored["others gain"] == pytest.approx(np.array([[0, 0.1], [0, 0], [0, 0]]), abs=1e-12)
    # Without scores, each task's carrier is the one that claims it.
    claimed = by_name(known, [[1, 1], [1, 0], [0, 1]], "updates")
    assert claimed["own"] == pytest.approx(np.array([[1, 1], [1, 0], [0, 1]]))


def test_of_two_claims_the_stronger_carries() -> None:
    """Of the update and its twin, the other acts on it."""
    known = replace(make_knowledge(2, tasks=1), relative_norm=np.array([0.1, 0.05]))
    found = by_name(known, [[1 / 3, 1], [1, 1 / 3]], "updates")
    assert found["own"][:, 0] == pytest.approx(1)
    acts = [known.pairs["interference"][1, 0] / 9, known.pairs["interference"][0, 1] / 9]
    assert found["own × interference"][:, 0] == pytest.approx(np.log1p(np.array(acts) / SCALES["interference"]))
    cosine = known.pairs["alignment"][0, 1]
    shares = np.array([cosine * 0.1 * (1 / 3) / 0.05, cosine * 0.05 * (1 / 3) / 0.1])
    assert found["own × along"][:, 0] == pytest.approx(np.tanh(shares))
    assert found["crowd"][:, 0] == pytest.approx(np.log1p(np.array([0.1, 0.05]) / 3 / SCALES["norm"]))


def test_what_the_others_do_adds_up_with_squares_of_their_strengths() -> None:
    known = make_knowledge(3)
    plan = [[0.5, 1 / 3, 1.0]]  # the first carries the first task
    acts = known.pairs["one_sided"][0, 1] / 9, known.pairs["one_sided"][0, 2]
    kl = known.kl[1, 0] / 9 + known.kl[2, 0]
    found = by_name(known, plan, "prompts")
    every = np.log1p(sum(acts) / SCALES["one_sided"])
    assert found["own × input side"][0, 0] == pytest.approx(0.5 * every)
    assert found["KL of others"][0, 0] == pytest.approx(np.log1p(kl / SCALES["kl"]))
    scored = by_name(known, plan)
    gain = scored["gain"][0, 0]
    assert scored["gain × input side"][0, 0] == pytest.approx(gain * every)
    assert scored["gain × worst input side"][0, 0] == pytest.approx(gain * np.log1p(max(acts) / SCALES["one_sided"]))


def test_strengths_are_linear_between_what_was_measured() -> None:
    known = make_knowledge(1, tasks=1)
    solo = np.array([[[0.5, 0.9]]])  # at a third, and whole
    known = replace(known, base=np.array([0.2]), solo=solo)
    gains = by_name(known, [[s] for s in (0.0, 1 / 6, 1 / 3, 2 / 3, 1.0, 4 / 3)])["gain"][:, 0]
    assert gains == pytest.approx([0, 0.15, 0.3, 0.5, 0.7, 0.9])
    whole_alone = replace(known, solo=np.array([[[np.nan, 0.9]]]))
    gains = by_name(whole_alone, [[s] for s in (0.0, 1 / 6, 1 / 3, 1.0)])["gain"][:, 0]
    assert gains == pytest.approx([0, 0.7 / 6, 0.7 / 3, 0.7])


def test_an_update_that_gains_nowhere_carries_nothing_and_is_felt() -> None:
    known = make_knowledge(2, tasks=1)
    known = replace(known, base=np.array([0.5]), solo=np.array([[[0.7, 0.9]], [[0.4, 0.2]]]))
    found = by_name(known, [[0, 1], [1, 1]])
    assert found["gain"][:, 0] == pytest.approx([0, 0.4])
    assert found["others lose"][:, 0] == pytest.approx([-0.3, -0.3])
    assert found["worst other"][:, 0] == pytest.approx([-0.3, -0.3])
    assert found["sum of all, within 0 and 1"][:, 0] == pytest.approx([-0.3, 0.1])


@pytest.mark.parametrize("needs", NEEDS)
def test_what_was_not_measured_does_not_leak(needs: Needs) -> None:
    """A number that is missing counts as none; the other tasks and updates keep theirs."""
    known = make_knowledge(3)
    _, before = features(known, PLANS, needs)
    unmeasured = replace(
        known,
        base=np.array([np.nan, *known.base[1:]]),
        kl=np.concatenate([np.full((1, 3), np.nan), known.kl[1:]]),
        effective_rank=np.array([np.nan, *known.effective_rank[1:]]),
        pairs={name: np.where(np.arange(3) == 0, np.nan, table) for name, table in known.pairs.items()},
    )
    _, after = features(unmeasured, PLANS, needs)
    assert np.isfinite(after).all()
    without = PLANS[:, 0] == 0  # plans without the first update, on the tasks whose base was scored
    assert after[without][:, 1:] == pytest.approx(before[without][:, 1:])
    nothing = make_knowledge(3, prompts=False, labels=False)
    assert np.isfinite(features(nothing, PLANS, needs)[1]).all()


@pytest.mark.parametrize("needs", NEEDS)
def test_a_zero_update_is_one_that_is_not_there(needs: Needs) -> None:
    known = make_knowledge(3)
    zero = replace(known, relative_norm=np.array([0.0, *known.relative_norm[1:]]))
    zero = replace(zero, pairs={name: np.where(np.eye(3)[0] + np.eye(3)[:, :1] > 0, np.nan, table)
                                for name, table in known.pairs.items()})  # fmt: skip
    assert np.isfinite(features(zero, PLANS, needs)[1]).all()
