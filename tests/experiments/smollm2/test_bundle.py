"""What ships: complete, small, of one base, and as its recipe says."""

import json
import struct
from pathlib import Path

import pytest
import torch

from gcwm_viz.checkpoints.adapters import Adapter
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError
from gcwm_viz.experiments.bundles import Bundle, digests
from gcwm_viz.experiments.smollm2.base import GGUF_SHA256, HUB_ID
from gcwm_viz.experiments.smollm2.build import SEQUENCE_STEPS, STEPS
from gcwm_viz.experiments.smollm2.bundle import locate
from gcwm_viz.experiments.smollm2.data import TASKS
from gcwm_viz.experiments.smollm2.train import FAMILIES, LoraSettings
from gcwm_viz.linalg.lowrank import dense, squared_norm
from gcwm_viz.updates.pairing import plan
from gcwm_viz.updates.sources import open_update

HIDDEN, INNER, KEYS, LAYERS, VOCABULARY = 576, 1536, 192, 30, 49152
SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KEYS, HIDDEN),
    "self_attn.v_proj": (KEYS, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return locate()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> CheckpointIndex:
    """SmolLM2-135M by its headers: the weights are a hole in the file."""
    shapes: dict[str, tuple[int, ...]] = {
        f"model.layers.{i}.{m}.weight": shape for i in range(LAYERS) for m, shape in SHAPES.items()
    }
    for layer in range(LAYERS):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"model.layers.{layer}.{norm}.weight"] = (HIDDEN,)
    shapes |= {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "model.norm.weight": (HIDDEN,)}
    header, begin = {}, 0
    for name, shape in shapes.items():
        end = begin + 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    raw = json.dumps(header).encode()
    folder = tmp_path_factory.mktemp("base")
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + begin)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": LAYERS}
    (folder / "config.json").write_text(json.dumps(config))
    return CheckpointIndex.open(folder)


def test_every_update_and_state_pairs_with_all_210_matrices(shipped: Bundle, base: CheckpointIndex) -> None:
    assert list(shipped.updates) == list(TASKS)
    assert sorted(shipped.sft) == [1, 2, 3, 4, 5]
    updates = [open_update(name, path, base) for name, path in shipped.updates.items()]
    states = [open_update(f"state {step}", path, base) for step, path in shipped.sft.items()]
    for sources in (updates, states):
        paired = plan(base, sources)
        assert len(paired.active) == len(paired.keys) == LAYERS * len(FAMILIES) == 210
        assert {len(update.touched) for update in paired.updates} == {210}
        # The states of Seq. SFT are no updates, and their folders' names say so.
        assert len(paired.warnings) == sum("states of one training" in text for text in paired.warnings)


def test_adapters_are_what_peft_writes_and_move_every_matrix(shipped: Bundle) -> None:
    for folder in {*shipped.updates.values(), *shipped.sft.values()}:
        adapter = Adapter.open(folder)
        assert not adapter.embeddings
        assert not adapter.replaced
        config = json.loads((folder / "adapter_config.json").read_text())
        assert (config["base_model_name_or_path"], config["r"]) == (HUB_ID, LoraSettings().rank)
        for module in adapter.modules.values():
            assert module.a.dtype == module.b.dtype == "F16"
            update = module.read(torch.float32, pytest.fail)
            assert bool(dense(update).isfinite().all())
            assert squared_norm(update) > 0


def test_sizes_are_bounded(shipped: Bundle) -> None:
    sizes = [path.stat().st_size for path in shipped.root.rglob("*") if path.is_file()]
    assert sum(sizes) <= 25e6
    assert max(sizes) < 4e6


def test_the_recipe_is_that_of_the_files(shipped: Bundle) -> None:
    recipe = shipped.recipe
    assert recipe["sha256"] == digests(shipped.root)
    assert recipe["base"]["sha256"] == GGUF_SHA256
    assert recipe["order"] == list(TASKS)
    assert (recipe["settings"]["steps"], recipe["settings"]["sequence_steps"]) == (STEPS, SEQUENCE_STEPS)
    folders = {f"adapters/{i:02d}_{name}" for i, name in enumerate(TASKS, 1)} | {f"sft/step_{t}" for t in range(2, 6)}
    assert set(recipe["training"]) == folders
    for name, made in recipe["training"].items():
        assert made == json.loads((shipped.root / name / "training.json").read_text())
        assert made["last_loss"] < made["first_loss"]
    assert {"torch", "peft", "transformers", "gguf", "python"} <= set(recipe["versions"])
    for path in (p for p in shipped.root.rglob("*") if p.suffix in (".json", ".md", ".jsonl")):
        text = path.read_text(encoding="utf-8")
        assert not [place for place in ("/tmp/", "/home/", "/root/", "/work/") if place in text], path


def test_the_recipe_holds_a_score_of_every_checkpoint_and_task(shipped: Bundle) -> None:
    points = [("base", 0), *(("expert", i) for i in range(1, 6)), *(("step", i) for i in range(1, 6))]
    probes = [(t, m) for t in TASKS for m in ("em", "nll")]
    probes += [(f"{t}_choice", m) for t in ("country", "chemistry") for m in ("acc", "nll")]
    expected = {(*point, split, *probe) for point in points for split in ("dev", "test") for probe in probes}
    rows = shipped.recipe["scores"]
    found = {(r["model"], r["step"], r["split"], r["task"], r["metric"]): r for r in rows}
    assert len(found) == len(rows)
    assert set(found) == expected
    for task in TASKS:
        lines = len((shipped.probes / "test" / f"{task}.jsonl").read_text(encoding="utf-8").splitlines())
        assert found["base", 0, "test", task, "em"]["n"] == lines


def test_each_task_was_learned_and_the_sequence_forgets(shipped: Bundle) -> None:
    """Claims of docs/examples.md, on the test probes as the recipe reports them."""
    em = {
        (r["model"], r["step"], r["task"]): r["value"]
        for r in shipped.recipe["scores"]
        if (r["metric"], r["split"]) == ("em", "test")
    }
    for place, task in enumerate(TASKS, start=1):
        assert em["expert", place, task] > em["base", 0, task] + 0.2
    drops = [em["step", place, task] - em["step", 5, task] for place, task in enumerate(TASKS[:-1], start=1)]
    assert sum(drops) / len(drops) > 0.1


def test_notices_of_model_and_facts(shipped: Bundle) -> None:
    notice = (shipped.root / "NOTICE.md").read_text()
    for word in ("SmolLM2", "Apache-2.0", "GeoNames", "Attribution 4.0", "periodictable", "SPECIALIST"):
        assert word in notice


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"recipe\.json: expected a trained example"):
        locate(tmp_path)
    (tmp_path / "recipe.json").write_text("[]")
    with pytest.raises(InputError, match='expected a JSON object with "order"'):
        locate(tmp_path)
    (tmp_path / "recipe.json").write_text('{"order": ["a", "b"]}')
    with pytest.raises(InputError, match=r"01_a.adapter_config\.json: expected it in the example"):
        locate(tmp_path)
