"""The calibrated model exported as a checkpoint, an adapter and a mergekit configuration."""

import json
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM

from gcwm_viz.calibration.calibrate import calibrate
from gcwm_viz.calibration.result import Calibrated
from gcwm_viz.calibration.settings import CalibrationSettings
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.cli import main
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.export.checkpoint import export_calibrated
from gcwm_viz.export.mergekit import calibrated_yaml
from gcwm_viz.linalg.lowrank import LowRank, dense
from gcwm_viz.probes.live import LiveModel
from tests.attribution.models import CPU, finish, write_adapter, write_inputs
from tests.calibration.models import as_checkpoints

TOKENS = torch.arange(3, 15).reshape(2, 6)
SHORT = CalibrationSettings(passes=3)


def in_memory(store: RunStore, calibrated: Calibrated) -> torch.Tensor:
    live = LiveModel(store, CPU)
    live.set_updates([calibrated.update(place) for place in range(len(store.keys))])
    with torch.no_grad():
        logits: torch.Tensor = live.model(TOKENS).logits
    return logits


def opened(store: RunStore) -> Calibrated:
    return Calibrated.of(store, CheckpointIndex.open(store.file.base.path))


@pytest.mark.parametrize("adapters", [False, True])
def test_logits_are_those_of_the_model_in_memory_bit_for_bit(tmp_path: Path, adapters: bool) -> None:
    store = finish(write_inputs(tmp_path, size=2.0, adapters=adapters), tmp_path / "run", "task-arithmetic")
    calibrate(store.path, SHORT)
    assert main(["export", str(store.path), "--calibrated", "--out", str(tmp_path / "out")]) == 0
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        assert torch.equal(loaded(TOKENS).logits, in_memory(store, opened(store)))
        assert main(["export", str(store.path), "--out", str(tmp_path / "merged")]) == 0
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
        assert not torch.equal(loaded(TOKENS).logits, merged(TOKENS).logits)
    about = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert about["sees"] == "development probes"
    assert len(about["factors"]) == len(store.keys)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "fitted on development probes" in card
    assert "The same for mergekit" not in card


def test_adapters_stay_an_adapter_of_the_sum_of_their_ranks(tmp_path: Path) -> None:
    store = finish(write_inputs(tmp_path, adapters=True), tmp_path / "run")
    calibrate(store.path, SHORT)
    calibrated = opened(store)
    updates = [calibrated.update(place) for place in range(len(store.keys))]
    assert all(isinstance(update, LowRank) for update in updates if update is not None)
    ranks = [int(torch.linalg.matrix_rank(dense(update))) for update in updates if update is not None]
    assert max(ranks) <= 9  # three adapters of rank 3, whose span the merged state lies in
    options = ["--as-adapter", "--rank", "9", "--out", str(tmp_path / "adapter")]
    assert main(["export", str(store.path), "--calibrated", *options]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft and transformers disagree about deprecated names
        base = AutoModelForCausalLM.from_pretrained(store.file.base.where)
        model = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        # Two float32 roundings of every factor, under a network's condition.
        torch.testing.assert_close(model(TOKENS).logits, in_memory(store, calibrated), rtol=1e-3, atol=1e-3)
    assert "fitted on development probes" in (tmp_path / "adapter" / "README.md").read_text()


@pytest.mark.parametrize("per", ["layer", "model"])
def test_weights_of_a_layer_for_mergekit_are_the_calibrated_model(tmp_path: Path, per: str) -> None:
    inputs = as_checkpoints(write_inputs(tmp_path, size=2.0), tmp_path, strengths={"names": 0.5})
    store = finish(inputs, tmp_path / "run", "task-arithmetic", eta=0.7)
    calibrate(store.path, CalibrationSettings(passes=3, per=per))
    calibrated = opened(store)
    models = yaml.safe_load(calibrated_yaml(calibrated))["models"]
    base = CheckpointIndex.open(store.file.base.path)
    for place, key in enumerate(store.keys):
        total = torch.zeros(key.shape, dtype=torch.float64)
        for entry, model in zip(store.file.updates, models, strict=True):
            weight = model["parameters"]["weight"]
            own = weight[key.layer] if isinstance(weight, list) else weight
            delta = entry.open(base).delta(key)
            if delta is not None:
                total += own / entry.strength * dense(delta).double()
        found = calibrated.update(place)
        assert found is not None
        torch.testing.assert_close(dense(found).double(), total, rtol=0, atol=1e-5)  # float32 sums of about 1
    assert isinstance(models[0]["parameters"]["weight"], list) == (per == "layer")
    file = tmp_path / "merge.yaml"
    assert main(["export", str(store.path), "--calibrated", "--mergekit-yaml", "--out", str(file)]) == 0
    assert yaml.safe_load(file.read_text())["merge_method"] == "task_arithmetic"


@pytest.mark.filterwarnings("default")  # mergekit's dependencies warn
def test_mergekit_merges_the_same(tmp_path: Path) -> None:
    pytest.importorskip("mergekit", reason="mergekit is not installed (extra `mergekit`)")
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    inputs = as_checkpoints(write_inputs(tmp_path, size=2.0), tmp_path)
    store = finish(inputs, tmp_path / "run", "task-arithmetic", eta=0.7)
    calibrate(store.path, CalibrationSettings(passes=3, per="layer"))
    calibrated = opened(store)
    recipe = MergeConfiguration.model_validate(yaml.safe_load(calibrated_yaml(calibrated)))
    quiet = MergeOptions(quiet=True, write_model_card=False, lora_merge_cache=str(tmp_path / "cache"))
    run_merge(recipe, str(tmp_path / "theirs"), quiet)
    theirs = CheckpointIndex.open(tmp_path / "theirs")
    ours = CheckpointIndex.open(export_calibrated(calibrated, tmp_path / "ours"))
    for key in store.keys:
        base = read_tensor(calibrated.base.tensors[key.name])
        expected, found = (read_tensor(index.tensors[key.name]) - base for index in (theirs, ours))
        assert float((found - expected).norm()) <= 1e-4 * float(expected.norm()), key.name


def test_what_mergekit_cannot_express_and_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = as_checkpoints(write_inputs(tmp_path, size=2.0), tmp_path)
    store = finish(inputs, tmp_path / "run", "task-arithmetic")
    with pytest.raises(InputError, match="has no finished calibration; compute it with: gcwm-viz calibrate"):
        opened(store)
    calibrate(store.path, SHORT)
    with pytest.raises(InputError, match="its coefficients differ within a layer, and mergekit has one weight a layer"):
        calibrated_yaml(opened(store))
    wudi = finish(inputs, tmp_path / "wudi")
    calibrate(wudi.path, CalibrationSettings(passes=1, per="model"))
    with pytest.raises(InputError, match="mergekit can express a calibrated merge by task-arithmetic alone"):
        calibrated_yaml(opened(wudi))
    assert main(["export", str(store.path), "--calibrated", "--step", "1", "--out", str(tmp_path / "x")]) == 2
    assert "a calibration is of the last step" in capsys.readouterr().err


def test_an_export_into_a_folder_with_content_is_refused(tmp_path: Path) -> None:
    store = finish(write_inputs(tmp_path, adapters=True), tmp_path / "run")
    calibrate(store.path, CalibrationSettings(passes=1))
    write_adapter(tmp_path / "there", seed=9)
    with pytest.raises(InputError, match="expected a new or empty folder"):
        export_calibrated(opened(store), tmp_path / "there")
