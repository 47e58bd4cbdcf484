"""Runs of plain baselines as mergekit configurations, and mergekit itself on them where it is installed."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.cli import main
from gcwm_viz.continual.plan_file import parse_plan
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.export.checkpoint import export_step
from gcwm_viz.export.mergekit import mergekit_yaml
from tests.checkpoints import tiny
from tests.export import runs

CASES: dict[str, dict[str, Any]] = {
    "task-arithmetic": {"eta": 0.5},
    "mean": {"eta": 0.5, "old_weight": 2.0},
    "ties": {"eta": 0.8, "ties_keep": 0.3},
    "dare": {"dare_drop": 0.4},
    "dare-ties": {"dare_drop": 0.4},
}
UNEQUAL = {"one": 0.4, "two": 1.5}
"""Strengths by update; the third has 1."""
EQUAL = dict.fromkeys(("one", "two", "three"), 0.4)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[CheckpointIndex, list[tuple[str, Path]]]:
    """Two full checkpoints and an adapter."""
    root = tmp_path_factory.mktemp("inputs")
    index = runs.base(root, "llama")
    adapter, _, _ = tiny.lora("llama", root / "adapter", r=2, target_modules="all-linear")
    return index, [*runs.experts(index, root, torch.float32), ("three", adapter)]


def made(
    inputs: tuple[CheckpointIndex, list[tuple[str, Path]]],
    out: Path,
    method: str,
    updates: list[tuple[str, Path]] | None = None,
    strengths: dict[str, float] | None = None,
    **settings: Any,
) -> RunStore:
    return runs.finished(inputs[0], updates or inputs[1], out, method, strengths, **settings)


def test_what_the_configuration_says(inputs: tuple[CheckpointIndex, list[tuple[str, Path]]], tmp_path: Path) -> None:
    store = made(inputs, tmp_path / "run", "task-arithmetic", eta=0.5, old_weight=2.0, memory=2)
    base, adapter = store.file.base.where, store.file.updates[2].where
    assert yaml.safe_load(mergekit_yaml(store, 3)) == {
        "merge_method": "task_arithmetic",
        "base_model": base,
        "models": [
            {"model": store.file.updates[1].where, "parameters": {"weight": 1.0}},
            {"model": f"{base}+{adapter}", "parameters": {"weight": 0.5}},
        ],
        "dtype": "float32",
        "tokenizer_source": "base",
    }


def test_the_command_and_the_card_say_the_same(
    inputs: tuple[CheckpointIndex, list[tuple[str, Path]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = made(inputs, tmp_path / "run", "ties")
    file = tmp_path / "merge.yaml"
    assert main(["export", str(store.path), "--mergekit-yaml", "--out", str(file)]) == 0
    assert file.read_text() == mergekit_yaml(store, 3)
    card = (export_step(store, 3, tmp_path / "out") / "README.md").read_text()
    assert "".join(f"    {line}\n" for line in file.read_text().splitlines()) in card
    assert main(["export", str(store.path), "--mergekit-yaml", "--out", str(file)]) == 2
    assert "expected a new file" in capsys.readouterr().err


def test_what_mergekit_cannot_say(inputs: tuple[CheckpointIndex, list[tuple[str, Path]]], tmp_path: Path) -> None:
    delta = tmp_path / "delta"
    tiny.store(delta, {"model.layers.0.mlp.up_proj.weight": torch.ones(24, 16)}, gcwm_viz="update")
    cases: list[tuple[str, dict[str, Any], list[tuple[str, Path]] | None, str]] = [
        ("gcwm", {}, None, "was merged by gcwm; mergekit has dare-ties, dare, ties, task-arithmetic, mean"),
        ("task-arithmetic", {"decay": 0.5}, None, "folds earlier steps into one another"),
        ("mean", {"policy": "current_anchor"}, None, "folds earlier steps into one another"),
        ("mean", {"post": "lines"}, None, "was merged with the step lines after every merge"),
        ("mean", {}, [("d", delta)], "update 'd' is a folder of update tensors"),
    ]
    for place, (method, settings, updates, says) in enumerate(cases):
        store = made(inputs, tmp_path / f"run{place}", method, updates, **settings)
        with pytest.raises(InputError, match=says):
            mergekit_yaml(store, 1)
        card = (export_step(store, 1, tmp_path / f"out{place}") / "README.md").read_text()
        assert "mergekit:" not in card


def test_strengths_are_in_the_weights_or_beside_them(
    inputs: tuple[CheckpointIndex, list[tuple[str, Path]]], tmp_path: Path
) -> None:
    def weights(strengths: dict[str, float], method: str, **settings: Any) -> tuple[list[float], Any]:
        store = made(inputs, tmp_path / f"{method}{len(strengths)}", method, strengths=strengths, **settings)
        recipe = yaml.safe_load(mergekit_yaml(store, 3))
        return [model["parameters"]["weight"] for model in recipe["models"]], recipe.get("parameters", {}).get("lambda")

    assert weights(UNEQUAL, "task-arithmetic", eta=0.5, old_weight=2.0) == ([0.4, 1.5, 0.5], None)
    assert weights(UNEQUAL, "dare", eta=0.5) == ([0.4, 1.5, 1.0], 0.5)
    assert weights(EQUAL, "ties", eta=0.5, old_weight=2.0) == ([2.0, 2.0, 1.0], 0.2)
    # Σ ω_i / η = 3 / 0.5, less 0.4 + 1.5 + 1, is the base's.
    assert weights(UNEQUAL, "mean", eta=0.5)[0] == pytest.approx([0.4, 1.5, 1.0, 3.1])
    for method in ("ties", "dare-ties"):
        store = made(inputs, tmp_path / method, method, strengths=UNEQUAL)
        with pytest.raises(InputError, match=f"merged by {method}: .*expected the same strength for all updates"):
            mergekit_yaml(store, 3)
        assert mergekit_yaml(store, 1)  # one update has one strength
    card = (export_step(store, 3, tmp_path / "out") / "README.md").read_text()
    assert "strength: 1.5" in card
    assert "mergekit:" not in card


@pytest.mark.filterwarnings("default")  # mergekit's dependencies warn
@pytest.mark.parametrize(
    ("method", "strengths"),
    [
        *((method, {}) for method in CASES),
        *((method, EQUAL if "ties" in method else UNEQUAL) for method in CASES),
    ],
)
def test_mergekit_reads_it_and_merges_the_same(
    inputs: tuple[CheckpointIndex, list[tuple[str, Path]]], tmp_path: Path, method: str, strengths: dict[str, float]
) -> None:
    pytest.importorskip("mergekit", reason="mergekit is not installed (extra `mergekit`)")
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    store = made(inputs, tmp_path / "run", method, strengths=strengths, **CASES[method])
    recipe = MergeConfiguration.model_validate(yaml.safe_load(mergekit_yaml(store, 3)))
    if method.startswith("dare"):
        return  # masks at random
    quiet = MergeOptions(quiet=True, write_model_card=False, lora_merge_cache=str(tmp_path / "cache"))
    run_merge(recipe, str(tmp_path / "theirs"), quiet)
    theirs = CheckpointIndex.open(tmp_path / "theirs")
    ours = CheckpointIndex.open(export_step(store, 3, tmp_path / "ours"))
    for key in store.keys:
        base = read_tensor(inputs[0].tensors[key.name])
        expected, found = (read_tensor(index.tensors[key.name]) - base for index in (theirs, ours))
        assert float((found - expected).norm()) <= 1e-4 * float(expected.norm()), key.name


@pytest.mark.parametrize(
    ("method", "strengths"), [("task-arithmetic", UNEQUAL), ("mean", UNEQUAL), ("ties", EQUAL), ("ties", {})]
)
def test_a_configuration_is_a_plan_of_the_same_merge(
    inputs: tuple[CheckpointIndex, list[tuple[str, Path]]], tmp_path: Path, method: str, strengths: dict[str, float]
) -> None:
    settings = {name: value for name, value in CASES[method].items() if name != "old_weight"}
    store = made(inputs, tmp_path / "run", method, strengths=strengths, **settings)
    file = tmp_path / "merge.yaml"
    file.write_text(mergekit_yaml(store, 3))
    assert main(["run", "--plan", str(file), "--out", str(tmp_path / "again"), "--device", "cpu"]) == 0
    again = RunStore.open(tmp_path / "again")
    for index, key in enumerate(store.keys):
        first, second = store.state(index, 3), again.state(index, 3)
        # The same sums of float32 in another order of factors.
        assert float((first - second).norm()) <= 1e-5 * float(first.norm()), key.name


MODEL = {"model": "other", "parameters": {"weight": 0.5}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"merge_method": "slerp"}, "asks mergekit for 'slerp'; of its methods task_arithmetic, linear"),
        ({"slices": []}, "a mergekit configuration with 'slices', and only whole models can be read"),
        ({"base_model": None}, "names no base_model"),
        ({"models": [{"model": "base"}]}, "merges nothing but its base_model"),
        ({"models": [{"model": "a", "parameters": {"weight": [0, 1]}}]}, "gives weight by layer or tensor"),
        ({"models": [{"model": "a", "parameters": {"gamma": 1}}]}, "has parameters other than density, weight"),
        ({"models": [MODEL, {"model": "a"}], "merge_method": "ties"}, "weights the models of ties differently"),
        ({"merge_method": "dare_ties"}, "does not normalise"),
        ({"models": [{"model": "a", "parameters": {"weight": -1}}]}, "must give the weight of 'a' as a number"),
        ({"models": [MODEL, {"model": "a", "parameters": {"density": 0.5}}], "merge_method": "dare_linear"},
         "gives its models different densities"),
    ],
)  # fmt: skip
def test_what_a_plan_cannot_say(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    content = {"merge_method": "task_arithmetic", "base_model": "base", "models": [MODEL]} | changes
    with pytest.raises(InputError, match=says):
        parse_plan(yaml.safe_dump(content).encode(), "merge.yaml", tmp_path)


def test_weights_become_strengths(tmp_path: Path) -> None:
    content = {
        "merge_method": "linear", "base_model": "org/base", "dtype": "bfloat16",
        "models": [{"model": "org/base", "parameters": {"weight": 3}}, {"model": "org/base+./lora"},
                   {"model": "org/math", "parameters": {"weight": 4}}],
    }  # fmt: skip
    plan = parse_plan(yaml.safe_dump(content).encode(), "merge.yaml", tmp_path)
    assert plan.method == "task-arithmetic"
    assert (plan.base, dict(plan.updates)["math"]) == (Path("org/base"), Path("org/math"))  # of the hub
    assert dict(plan.updates)["lora"] == tmp_path / "lora"
    assert plan.strengths == {"lora": 1 / 8, "math": 0.5}
    assert plan.settings == {"eta": 1.0}
