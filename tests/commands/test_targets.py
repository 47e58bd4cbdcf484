"""``--targets`` and ``--leave-out`` from a user's side: chosen once, the same in everything that a run does later."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.cli import main
from gcwm_viz.continual.plan_file import parse_plan
from gcwm_viz.continual.store import RunStore
from gcwm_viz.decide.plan import plan_of
from gcwm_viz.errors import InputError
from gcwm_viz.runs.inputs import reopen_inputs
from gcwm_viz.updates.choice import Choice
from tests.checkpoints import tiny
from tests.continual.inputs import write_base, write_updates


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    updates = write_updates(tmp_path / "updates", "ab")
    listed = [part for name, path in updates for part in ("--update", f"{name}={path}")]
    return ["--base", str(write_base(tmp_path / "base")), *listed, "--device", "cpu"]


def test_families_that_are_left_out_stay(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, merged = tmp_path / "run", tmp_path / "merged"
    left_out = ["--leave-out", r"down_proj|layers\.0\..*q_proj"]
    assert main(["check", *arguments, *left_out]) == 0
    said = capsys.readouterr().out
    assert r"in target matrices, leave-out 'down_proj|layers\\.0\\..*q_proj'" in said
    assert "  down_proj " not in said
    assert "tensors kept from the base: matrices 3, embeddings 1" in said
    assert main(["run", *arguments, *left_out, "--out", str(out)]) == 0
    store = RunStore.open(out)
    assert json.loads((out / "run.json").read_text())["targets"] == {"leave_out": left_out[1]}
    families = {(key.layer, key.family) for key in store.keys}
    assert (1, "q_proj") in families
    assert not families & {(0, "q_proj"), (0, "down_proj"), (1, "down_proj")}
    assert reopen_inputs(store).plan.active == store.keys
    assert main(["resume", str(out), "--device", "cpu"]) == 0
    assert main(["export", str(out), "--out", str(merged)]) == 0
    before, after = tiny.tensors(tmp_path / "base"), tiny.tensors(merged)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {key.name for key in store.keys}
    assert f"leave_out: {left_out[1]}" in (merged / "README.md").read_text()
    chosen = Choice(leave_out=left_out[1])
    assert plan_of(store, {"b": 0.5}).choice == chosen
    assert parse_plan(plan_of(store, {"b": 0.5}).to_yaml().encode(), "p").choice == chosen
    plan = tmp_path / "plan.yaml"
    plan.write_text(plan_of(store, {"a": 1}).to_yaml())
    assert (
        main(["run", "--plan", str(plan), "--targets", "q_proj", "--device", "cpu", "--out", str(tmp_path / "p")]) == 0
    )
    assert [(key.layer, key.family) for key in RunStore.open(tmp_path / "p").keys] == [(1, "q_proj")]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--targets", "vision"], "--targets 'vision' matches no matrix; there are model.layers.N."),
        (["--leave-out", "vision"], "--leave-out 'vision' matches no matrix"),
        (["--targets", "("], "--targets: '(' is no regular expression"),
        (["--leave-out", "(x*)*y"], "--leave-out: expected a simpler pattern than '(x*)*y'"),
    ],
)
def test_patterns_that_cannot_be_used(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main(["run", *arguments, *more, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_pattern_in_a_run_folder_is_no_more_trusted(arguments: list[str], tmp_path: Path) -> None:
    assert main(["run", *arguments, "--targets", "q_proj", "--out", str(tmp_path / "run")]) == 0
    file = tmp_path / "run" / "run.json"
    for wrong, message in (({"targets": "(a+)+"}, "simpler"), ({"other": "x"}, "targets, expected"), ([], "targets")):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"targets": wrong}))
        with pytest.raises(InputError, match=message):
            RunStore.open(tmp_path / "run")


def test_a_vision_tower_merged_is_what_transformers_loads(tmp_path: Path) -> None:
    """The pixels' path through the exported tower equals that of base + S_T set by hand."""
    base, expert = (tiny.model("llava", seed=seed) for seed in (0, 1))
    tiny.save(base, tmp_path / "base")
    inputs = ["--base", str(tmp_path / "base"), "--update", f"x={tiny.save(expert, tmp_path / 'x')}"]
    out = ["--out", str(tmp_path / "run"), "--device", "cpu", "--eta", "0.5"]
    assert main(["run", *inputs, "--targets", "vision_tower|projector", *out]) == 0
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "merged")]) == 0
    store = RunStore.open(tmp_path / "run")
    assert {key.family.split(".")[0] for key in store.keys} == {"vision_tower", "multi_modal_projector"}
    own = CheckpointIndex.open(tmp_path / "base").tensors.keys()
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged").eval()
    tensors = tiny.tensors(tmp_path / "base")
    for place, key in enumerate(store.keys):
        tensors[key.name] += key.from_linear(store.state(place, 1))
    tiny.store(tmp_path / "byhand", tensors)
    (tmp_path / "byhand" / "config.json").write_text((tmp_path / "base" / "config.json").read_text())
    by_hand = AutoModelForImageTextToText.from_pretrained(tmp_path / "byhand").eval()
    pixels = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = [m.model.vision_tower(pixels).last_hidden_state for m in (loaded, by_hand, base)]
    assert torch.equal(features[0], features[1])
    assert not torch.equal(features[0], features[2])
    assert own == tiny.tensors(tmp_path / "merged").keys()
