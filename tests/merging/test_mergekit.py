"""The same checkpoints merged by mergekit, where it is installed (the extra ``mergekit``).

Both read the same files, so that mergekit subtracts the base itself. Where its definitions differ from the papers'
these tests set what makes them meet:

- ``ties`` divides by the weights of the updates that agree in an entry, as the paper does; ``dare_ties`` does so only
  under ``normalize``.
- ``dare_ties`` does not trim by magnitude, so ``ties_keep`` is 1 here.
- ``linear`` averages whole checkpoints; the mean of updates is the same when the base itself has no weight.
- Its DARE rescales to the norm Σ|Δ| of the update and not by 1/(1 − p), so only p = 0 is comparable.
- Where positive and negative mass are equal it elects +, and TIES here no sign; of equal magnitudes at the boundary it
  keeps what its sort happens to give, here the first. These updates have neither.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.experiments.lab.bundle import locate
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.linalg.lowrank import dense
from gcwm_viz.updates.matrices import target_matrices
from gcwm_viz.updates.sources import open_update
from tests.factories import generator
from tests.merging.steps import merge

pytest.importorskip("mergekit", reason="mergekit is not installed (extra `mergekit`)")

NAMES = ["a", "b", "c"]
CASES = {
    # mergekit's method and parameters of each model; this project's method and options
    "linear": ("linear", {}, "mean", {}),
    "task arithmetic": ("task_arithmetic", {}, "task-arithmetic", {}),
    "ties": ("ties", {"density": 0.2}, "ties", {"ties_keep": 0.2}),
    "ties, weighted": ("ties", {"density": 0.5}, "ties", {"ties_keep": 0.5}),
    "dare by sum": ("dare_linear", {"density": 1.0}, "dare", {"dare_drop": 0.0}),
    "dare by ties": (
        "dare_ties",
        {"density": 1.0},
        "dare-ties",
        {"dare_drop": 0.0, "ties_keep": 1.0},
    ),
}
WEIGHTS = {"ties, weighted": [1.0, 0.5, 2.0]}


@pytest.fixture(scope="module", params=["llama", "lab"])
def checkpoints(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and three fine-tuned models, float32, on disk: random ones, and the lab's first three."""
    root = tmp_path_factory.mktemp("models")
    {"llama": write_llama, "lab": write_lab}[request.param](root)
    return root


def write_llama(root: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config)
    rng = generator(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=rng))
        base = {name: parameter.clone() for name, parameter in model.named_parameters()}
        for name in ("base", *NAMES):
            for key, parameter in model.named_parameters():
                move = 0.0 if name == "base" else 0.02 * torch.randn(parameter.shape, generator=rng)
                parameter.copy_(base[key] + move)
            model.save_pretrained(root / name)


def write_lab(root: Path) -> None:
    bundle, rng = locate(), generator(4)
    base = CheckpointIndex.open(bundle.base)
    tensors = {name: read_tensor(info).float() for name, info in base.tensors.items()}
    for name, update in zip(["base", *NAMES], [None, *bundle.updates.values()], strict=False):
        moved = dict(tensors)
        if update is not None:
            source = open_update(name, update, base)
            for key in target_matrices(base):
                # Float16 updates hold equal magnitudes, and which of them a trim keeps is anyone's choice.
                delta = source.delta(key)
                assert delta is not None
                jitter = 1 + 1e-3 * torch.randn(key.shape, generator=rng)
                moved[key.name] = tensors[key.name] + jitter * dense(delta)
        (root / name).mkdir()
        save_file(moved, root / name / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((bundle.base / "config.json").read_text()) | {"dtype": "float32"}
        (root / name / "config.json").write_text(json.dumps(config))


@pytest.mark.filterwarnings("default")  # mergekit's dependencies warn
@pytest.mark.parametrize("case", CASES)
def test_equal_to_mergekit(case: str, checkpoints: Path, tmp_path: Path) -> None:
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    theirs, parameters, ours, options = CASES[case]
    weights = WEIGHTS.get(case, [1.0, 1.0, 1.0])
    models = [
        {"model": str(checkpoints / name), "parameters": {"weight": weight} | parameters}
        for name, weight in zip(NAMES, weights, strict=True)
    ]
    recipe: dict[str, Any] = {"merge_method": theirs, "models": models, "dtype": "float32"}
    if theirs == "dare_ties":
        recipe["parameters"] = {"normalize": True}
    if theirs != "linear":
        recipe["base_model"] = str(checkpoints / "base")
    run_merge(
        MergeConfiguration.model_validate(recipe),
        str(tmp_path / "merged"),
        MergeOptions(copy_tokenizer=False, quiet=True, write_model_card=False),
    )

    base = CheckpointIndex.open(checkpoints / "base")
    sources = [open_update(name, checkpoints / name, base) for name in NAMES]
    keys = target_matrices(base)
    assert len(keys) in (14, 28)
    merged = CheckpointIndex.open(tmp_path / "merged")
    for key in keys:
        deltas: list[Any] = [source.delta(key) for source in sources]
        state = merge(ours, deltas, GCWMConfig(), weights=weights, names=NAMES, **options)
        expected = read_tensor(merged.tensors[key.name]) - read_tensor(base.tensors[key.name])
        assert float((state - expected).norm()) <= 1e-5 * float(expected.norm()), key.name
