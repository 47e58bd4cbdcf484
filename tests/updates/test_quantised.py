"""Quantised weights in the forms that quantisers write, as the base and as an update: refused in one sentence."""

import json
from pathlib import Path

import pytest

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError
from gcwm_viz.updates.pairing import open_update, plan, target_matrices
from tests.checkpoints import tiny
from tests.updates.forms import QUANTISED, UP


@pytest.mark.parametrize("named", [True, False], ids=["config", "tensors alone"])
@pytest.mark.parametrize("form", QUANTISED)
def test_quantised_weights_are_refused(base: CheckpointIndex, tmp_path: Path, form: str, named: bool) -> None:
    content = tiny.tensors(base.root)
    del content[f"{UP}.weight"]
    folder = tiny.store(
        tmp_path / "a", content | {f"{UP}{suffix}": tensor for suffix, tensor in QUANTISED[form].items()}
    )
    method = form.split()[0]
    config = base.config | ({"quantization_config": {"quant_method": method}} if named else {})
    (folder / "config.json").write_text(json.dumps(config))
    index = CheckpointIndex.open(folder)
    for call in (lambda: target_matrices(index), lambda: open_update("x", folder, base)):
        with pytest.raises(InputError, match=r"these weights are quantised \(.*dequantise them first") as caught:
            call()
        assert UP in str(caught.value)
        assert (f"({method}, tensor" in str(caught.value)) == named


def test_a_config_that_no_tensor_bears_out(base: CheckpointIndex, tmp_path: Path) -> None:
    """What was dequantised or merged may keep its quantization_config: dense weights are dense."""
    folder = tiny.save(tiny.model("qwen3", seed=1), tmp_path / "a")
    config = base.config | {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    (folder / "config.json").write_text(json.dumps(config))
    assert plan(base, [open_update("x", folder, base)]).warnings == []
    other = CheckpointIndex.open(folder)
    (warning,) = plan(other, [open_update("x", base.root, other)]).warnings
    assert warning == (
        f"{folder / 'config.json'} speaks of weights quantised by bitsandbytes, which these are not; the merged model "
        "takes it over, and transformers would quantise it when loading it, so remove quantization_config"
    )


def test_gguf_alone(tmp_path: Path) -> None:
    (tmp_path / "model.Q4_K_M.gguf").write_bytes(b"GGUF")
    for path in (tmp_path, tmp_path / "model.Q4_K_M.gguf"):
        with pytest.raises(
            InputError,
            match=rf"only GGUF weights \(model.Q4_K_M.gguf\).*`gcwm-viz dequantise {path} --out NEW_DIR`",
        ):
            CheckpointIndex.open(path)
