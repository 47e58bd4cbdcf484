"""The callback in real trainings of a tiny model, against what the library gives for the saved checkpoints."""

import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.trainer_callback import TrainerControl, TrainerState

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.decide.predict import predict
from gcwm_viz.errors import InputError
from gcwm_viz.integrations.transformers import GeometryConflictCallback
from gcwm_viz.linalg.lowrank import LowRank
from gcwm_viz.runs.tables import open_run
from gcwm_viz.updates.matrices import target_matrices
from tests.checkpoints import tiny
from tests.integrations.training import (
    CPU,
    Values,
    adapted,
    finished,
    geometry,
    in_quiet,
    log_of,
    new_trainer,
    train,
    write_base,
    write_earlier,
)

SAME = 1e-9
"""The library reads the same float32 weights; products of float64 are taken in another order."""


@dataclass(frozen=True)
class Inputs:
    root: Path
    base: Path
    earlier: dict[str, Path]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    root = tmp_path_factory.mktemp("training")
    return Inputs(root, write_base(root / "base"), write_earlier(root))


def of_library(base: Path, earlier: dict[str, Path], checkpoint: Path, out: Path) -> Values:
    """What a run over the earlier updates and the checkpoint, and its forecast, say of the latter."""
    store = finished(base, {**earlier, "new": checkpoint}, out)
    (step,) = (row for row in open_run(store.path).tables["steps"].to_dict("records") if row["update"] == "new")
    tables = predict(store.path, on=CPU, workers=1)
    (own,) = (row for row in tables["updates"].to_dict("records") if row["update"] == "new")
    acts = {row["i"]: row for row in tables["pairs"].to_dict("records") if row["j"] == "new"}
    values = {"relative_norm": own["relative_norm"], "intruders": own["intruders"]}
    values |= {"incoming_conflict": step["incoming_conflict"]}
    values |= {"sar": sum(row["sar"] for row in acts.values()) / len(acts)}
    return values | {f"interference/{name}": acts[name]["interference"] for name in earlier}


def test_numbers_are_those_of_the_saved_checkpoint_and_arrive_in_tensorboard(
    given: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    trainer = new_trainer(
        tiny.model("llama"),
        tmp_path / "out",
        report_to="tensorboard",
        gradient_accumulation_steps=2,
        save_strategy="steps",
        save_steps=4,
    )
    found = train(trainer, base=given.base, earlier=given.earlier, every=2)
    assert list(found) == [2, 4], "optimiser steps, not batches"
    expected = of_library(given.base, given.earlier, tmp_path / "out" / "checkpoint-4", tmp_path / "run")
    assert {name: found[4][name] for name in expected} == pytest.approx(expected, rel=SAME)
    assert found[4]["matrices"] == found[4]["matrices_in_all"] == 14

    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    for name in (*expected, "q_proj/sar"):
        scalars = events.Scalars(f"train/geometry/{name}")
        assert [event.step for event in scalars] == [2, 4]
        assert scalars[-1].value == pytest.approx(found[4][name], rel=1e-6), "TensorBoard keeps float32"
    assert [event.step for event in events.Scalars("train/loss")] == [2, 4], "the step's own log is not lost"


def test_a_family_has_the_values_of_its_matrices_alone(given: Inputs, tmp_path: Path) -> None:
    trainer = new_trainer(tiny.model("llama"), tmp_path, max_steps=1)
    whole = train(trainer, base=given.base, earlier=given.earlier, every=1)[1]
    trainer = new_trainer(tiny.model("llama"), tmp_path, max_steps=1)
    alone = train(trainer, base=given.base, earlier=given.earlier, every=1, targets="down_proj", families=False)[1]
    assert alone.pop("matrices") == alone.pop("matrices_in_all") == 2
    assert {name: whole[f"down_proj/{name}"] for name in alone} == alone
    assert whole["q_proj/sar"] != whole["down_proj/sar"]
    assert "k_proj/interference/code" not in whole, "the adapter does not touch it"


def test_of_lora_the_factors_are_used(given: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = {"code": given.earlier["code"]}
    settings: dict[str, Any] = {"base": given.base, "earlier": earlier, "intruders_up_to": 1}
    model = adapted(given.base, r=3, lora_alpha=5, target_modules=["q_proj", "v_proj"])

    def densified(update: LowRank) -> None:
        raise AssertionError(f"{update.shape} multiplied out")

    with monkeypatch.context() as patched:
        patched.setattr(LowRank, "dense", densified)
        trainer = new_trainer(model, tmp_path / "out", save_strategy="steps", save_steps=4)
        found = train(trainer, every=2, **settings)
    assert list(found) == [2, 4]
    assert found[4]["matrices_in_all"] == 4, "those that the adapter has"
    assert {"q_proj/sar", "v_proj/relative_norm"} <= found[4].keys()
    expected = of_library(given.base, earlier, tmp_path / "out" / "checkpoint-4", tmp_path / "run")
    # Not relative to the same norms: the library's run is over the matrices of all updates.
    same = ("sar", "incoming_conflict")
    assert {name: found[4][name] for name in same} == pytest.approx({name: expected[name] for name in same}, rel=SAME)
    assert "intruders" not in found[4]


def test_an_adapter_may_have_another_name(given: Inputs, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"base": given.base, "earlier": given.earlier}
    targets = ["q_proj", "down_proj"]
    saves: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2, "max_steps": 2}
    saved = train(new_trainer(_seeded(given.base, "mine", targets), tmp_path / "out", **saves), **settings)
    assert (tmp_path / "out" / "checkpoint-2" / "mine").is_dir()
    trainer = new_trainer(_seeded(given.base, "default", targets), tmp_path / "other", max_steps=2)
    assert train(trainer, every=2, **settings) == saved


def _seeded(base: Path, name: str, targets: list[str]) -> Any:
    torch.manual_seed(4)
    return adapted(base, name, r=2, target_modules=targets)


def test_a_resumed_training_logs_what_an_uninterrupted_one_does(given: Inputs, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"base": given.base, "earlier": given.earlier}
    saves: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2}
    whole = train(new_trainer(tiny.model("llama"), tmp_path / "out", **saves), **settings)
    assert list(whole) == [2, 4]
    first = tmp_path / "out" / "checkpoint-2"
    assert log_of(first) == {2: whole[2]}, "the checkpoint's own log has its geometry"
    resumed = new_trainer(tiny.model("llama", seed=9), tmp_path / "out", **saves)
    assert train(resumed, resume=first, **settings) == whole
    in_memory = train(new_trainer(tiny.model("llama"), tmp_path / "other"), every=4, **settings)
    assert in_memory == {4: whole[4]}, "files and memory hold the same weights"


def test_a_run_gives_its_updates_and_its_final_state(given: Inputs, tmp_path: Path) -> None:
    store = finished(given.base, given.earlier, tmp_path / "run")
    one = train(new_trainer(tiny.model("llama"), tmp_path, max_steps=1), run=store.path, every=1)
    other = train(
        new_trainer(tiny.model("llama"), tmp_path, max_steps=1), base=given.base, earlier=given.earlier, every=1
    )
    assert one[1] == pytest.approx(other[1], rel=1e-6), "the run stores its state in float32"


def test_a_training_may_start_from_another_model_than_the_base_of_the_run(given: Inputs, tmp_path: Path) -> None:
    """Δ is what this training changes; the state and the earlier updates are those of the run."""
    store = finished(given.base, given.earlier, tmp_path / "run")
    start = given.earlier["math"]
    trainer = new_trainer(
        tiny.model("llama").from_pretrained(start), tmp_path / "out", max_steps=2, save_strategy="steps"
    )
    found = train(trainer, run=store.path, base=start)[2]
    before, after = tiny.tensors(start), tiny.tensors(tmp_path / "out" / "checkpoint-2")
    names = [key.name for key in target_matrices(CheckpointIndex.open(start))]
    change = sum(float((after[name].double() - before[name].double()).square().sum()) for name in names)
    size = sum(float(before[name].double().square().sum()) for name in names)
    assert found["relative_norm"] == pytest.approx(math.sqrt(change / size), rel=SAME)


def test_a_threshold_warns_when_it_is_crossed_and_stops(
    given: Inputs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings: dict[str, Any] = {"base": given.base, "earlier": given.earlier, "every": 1, "families": False}
    found = train(new_trainer(tiny.model("llama"), tmp_path), **settings)
    norms = [values["relative_norm"] for values in found.values()]
    assert norms == sorted(norms), "it grows, so that it crosses once"
    caplog.clear()
    middle = (norms[1] + norms[2]) / 2
    train(new_trainer(tiny.model("llama"), tmp_path), warn_at={"relative_norm": middle}, **settings)
    said = [record.message for record in caplog.records if "geometry" in record.message]
    assert said == [f"step 3: geometry/relative_norm is {norms[2]:.3g}, at or over {middle:g}"]
    caplog.clear()
    trainer = new_trainer(tiny.model("llama"), tmp_path)
    assert list(train(trainer, stop_at={"relative_norm": middle}, **settings)) == [1, 2, 3]
    assert trainer.state.global_step == 3
    assert "step 3: the training stops, geometry/relative_norm" in caplog.text


def test_a_warning_is_not_repeated_by_a_resumed_training(
    given: Inputs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings: dict[str, Any] = {"base": given.base, "earlier": given.earlier, "warn_at": {"relative_norm": 1e-9}}
    saves: dict[str, Any] = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    train(new_trainer(tiny.model("llama"), tmp_path, **saves), **settings)
    assert caplog.text.count("at or over") == 1
    caplog.clear()
    trainer = new_trainer(tiny.model("llama"), tmp_path, **saves)
    assert list(train(trainer, resume=tmp_path / "checkpoint-1", **settings)) == [1, 2]
    assert "at or over" not in caplog.text


@pytest.mark.parametrize(
    ("budget", "said"),
    [({"budget_s": 0}, "prepare_s=300 and budget_s=0"), ({"prepare_s": 0}, "prepare_s=0 and budget_s=60")],
)
def test_a_spent_budget_covers_one_matrix_and_says_so(
    given: Inputs, tmp_path: Path, caplog: pytest.LogCaptureFixture, budget: dict[str, Any], said: str
) -> None:
    settings: dict[str, Any] = {"base": given.base, "earlier": given.earlier}
    saves: dict[str, Any] = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    found = train(new_trainer(tiny.model("llama"), tmp_path, **saves), **budget, **settings)
    assert [values["matrices"] for values in found.values()] == [1, 1]
    assert caplog.text.count(f"geometry of 1 of 14 matrices, as matrices=None, {said} allow") == 1
    # More time later changes nothing: means over other matrices could not be compared.
    trainer = new_trainer(tiny.model("llama"), tmp_path, **saves)
    assert train(trainer, resume=tmp_path / "checkpoint-1", **settings) == found


def test_matrices_limits_them(given: Inputs, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = new_trainer(tiny.model("llama"), tmp_path, max_steps=1)
    limits: dict[str, float] = {"intruders": 1.0}
    found = train(
        trainer, base=given.base, earlier=given.earlier, every=1, matrices=7, intruders_up_to=1, stop_at=limits
    )
    assert found[1]["matrices"] == 7
    assert {name.partition("/")[0] for name in found[1] if name.endswith("_proj/sar")} >= {"q_proj", "down_proj"}
    assert "geometry of 7 of 14 matrices, as matrices=7, prepare_s=300 and budget_s=60 allow" in caplog.text
    assert "geometry/intruders is undefined in the covered matrices, its threshold cannot be reached" in caplog.text


def test_another_process_than_the_first_does_nothing(tmp_path: Path) -> None:
    """Not even open its inputs, which are not there."""
    other: Any = SimpleNamespace(is_world_process_zero=lambda: False)
    callback = GeometryConflictCallback(other, base=tmp_path / "none", earlier={"a": tmp_path / "a"}, every=1)
    state, control = TrainerState(is_world_process_zero=False, global_step=1), TrainerControl()
    args: Any = SimpleNamespace(output_dir=str(tmp_path))
    for event in (callback.on_train_begin, callback.on_step_end, callback.on_save):
        event(args, state, control)
    assert state.log_history == []
    assert not control.should_training_stop
    assert list(tmp_path.iterdir()) == []


def stopped(rank: int, folder: Path) -> None:
    """The first process says that the training stops; the other learns it in its callback."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    if rank == 0:
        torch.distributed.broadcast_object_list([True], src=0)
    else:
        other: Any = SimpleNamespace(is_world_process_zero=lambda: False)
        callback = GeometryConflictCallback(
            other, base=folder, earlier={"a": folder}, every=1, stop_at={"incoming_conflict": 0.5}
        )
        control = TrainerControl()
        args: Any = SimpleNamespace(output_dir=str(folder))
        callback.on_step_end(args, TrainerState(is_world_process_zero=False, global_step=1), control)
        (folder / "control").write_text(str(control.should_training_stop))
    torch.distributed.destroy_process_group()


def test_every_process_stops_with_the_first(tmp_path: Path) -> None:
    context: Any = torch.multiprocessing.get_context("fork")
    processes = [context.Process(target=stopped, args=(rank, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "control").read_text() == "True"


def test_a_model_of_another_base_is_refused(given: Inputs, tmp_path: Path) -> None:
    wide = tiny.model("llama").config
    wide.intermediate_size = 32
    from transformers import AutoModelForCausalLM

    trainer = new_trainer(AutoModelForCausalLM.from_config(wide), tmp_path)
    with pytest.raises(InputError, match=r"another base than .*gate_proj.* of shape \(24, 16\), found \(32, 16\)"):
        train(trainer, base=given.base, earlier=given.earlier)
    other = adapted(tiny.save(AutoModelForCausalLM.from_config(wide), tmp_path / "wide"), target_modules=["up_proj"])
    with pytest.raises(InputError, match=r"for another base: .* has shape \(32, 16\), expected \(24, 16\)"):
        train(new_trainer(other, tmp_path / "out"), base=given.base, earlier=given.earlier)


def test_earlier_updates_that_do_not_fit_are_refused_at_once(given: Inputs, tmp_path: Path) -> None:
    trainer = new_trainer(tiny.model("llama"), tmp_path)
    name = "model.layers.0.mlp.up_proj.weight"
    odd = tiny.store(tmp_path / "odd", {name: torch.ones(3, 16)}, gcwm_viz="update")
    with pytest.raises(InputError, match=rf"odd.*{name}.*\(3, 16\), expected \(24, 16\)"):
        GeometryConflictCallback(trainer, base=given.base, earlier={"odd": odd})
    with pytest.raises(InputError, match="none: expected a folder"):
        GeometryConflictCallback(trainer, base=given.base, earlier={"math": tmp_path / "none"})
    with pytest.raises(InputError, match="is not a run folder"):
        GeometryConflictCallback(trainer, run=tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "expected base and earlier updates, or a run"),
        ({"earlier": {}, "run": "x"}, "expected base and earlier updates, or a run"),
        ({"every": 0}, "every must be at least 1, or None, got 0"),
        ({"matrices": 0}, "matrices must be at least 1, or None, got 0"),
        ({"budget_s": math.nan}, "budget_s must be a number of seconds"),
        ({"prepare_s": -1.0}, "prepare_s must be a number of seconds, 0 or more, got -1"),
        ({"warn_at": {"interference": 1.0}}, "warn_at: nothing called 'interference' is measured, expected .*/math"),
        ({"stop_at": {"q_proj/conflict": 1.0}}, "stop_at: nothing called 'q_proj/conflict'"),
    ],
)
def test_settings_out_of_range_are_refused_at_once(
    given: Inputs, tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    trainer = new_trainer(tiny.model("llama"), tmp_path)
    inputs: dict[str, Any] = {} if not settings or "run" in settings else {"base": given.base, "earlier": given.earlier}
    with pytest.raises(InputError, match=said):
        GeometryConflictCallback(trainer, **inputs, **settings)


def test_weights_that_are_not_finite_are_a_warning(
    given: Inputs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny.model("llama")
    trainer = new_trainer(model, tmp_path, max_steps=2)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[2, 3] = torch.nan
    assert train(trainer, base=given.base, earlier=given.earlier, every=1) == {}
    assert trainer.state.global_step == 2
    assert "step 2: the geometry was not measured (the model in training: tensor" in caplog.text


def test_a_sharded_model_is_measured_by_what_it_saves(given: Inputs, tmp_path: Path) -> None:
    def sharded() -> Any:
        model = tiny.model("llama")
        for parameter in model.parameters():
            parameter.ds_id = 0  # as DeepSpeed marks them
        return model

    settings: dict[str, Any] = {"base": given.base, "earlier": given.earlier}
    trainer = new_trainer(sharded(), tmp_path)
    with pytest.raises(InputError, match=r"sharded over processes, expected every=None"):
        train(trainer, every=1, **settings)
    trainer = new_trainer(sharded(), tmp_path, save_strategy="steps", max_steps=2)
    assert list(train(trainer, **settings)) == [2]


def test_the_example_of_the_document_runs(given: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = Path(__file__).resolve().parents[2] / "docs" / "training.md"
    example = document.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    places = {
        "models/base": given.base,
        "adapters/math": given.earlier["code"],
        "checkpoints/code": given.earlier["math"],
    }
    for place, folder in places.items():
        (tmp_path / place).parent.mkdir()
        (tmp_path / place).symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with in_quiet():  # it trains on whatever device there is
        exec(compile(example, str(document), "exec"), names)
    assert list(geometry(names["trainer"].state.log_history)) == [10, 20]


def test_without_earlier_updates_the_update_itself_is_measured(given: Inputs, tmp_path: Path) -> None:
    trainer = new_trainer(tiny.model("llama"), tmp_path, max_steps=1)
    found = train(trainer, base=given.base, earlier={}, every=1, families=False)
    assert found[1].keys() == {"relative_norm", "intruders", "matrices", "matrices_in_all"}
    assert geometry(trainer.state.log_history) == found
