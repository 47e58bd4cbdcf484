"""The Start page: a plan from a form, its check, a run as a job, and how runs stand."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.plan_file import RunPlan, parse_plan
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.jobs import jobs
from gcwm_viz.jobs.progress import duration, paces, progress_of
from gcwm_viz.probes.tasks import GENERAL, GENERAL_TEXT
from gcwm_viz.ui import folder_picker, plan_check, plan_form, run_jobs, setting_fields, start
from tests.continual.inputs import write_base, write_updates
from tests.factories_runs import NASTY, write_run
from tests.ui.test_pages import words

PAGE = "pages/0_Start.py"
ANSWER = {
    "base": "b", "base_parameters": 1000, "parameters": 800, "warnings": [f"odd {NASTY}"], "notes": ["a note"],
    "updates": [{
        "update": NASTY, "kind": "delta", "strength": 1.0, "matrices": 8, "missing": 0, "ignored": 0, "extra": 0
    }],
    "families": [{"family": "q_proj", "d_out": 4, "d_in": 4, "matrices": 8}],
    "bytes_to_read": 2_000_000, "device": "cpu", "flops": 1.0, "memory_bytes": 3e9, "disk_bytes": 40, "seconds": 200.0,
    "probes": [{"task": NASTY, "split": "test", "kind": "prompts", "examples": 7}], "probe_memory_bytes": 6e9,
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    write_base(folder / "inputs" / "base")
    write_updates(folder / "inputs" / "updates", "ab")
    return folder


@pytest.fixture
def app(open_page: Callable[..., AppTest], root: Path) -> AppTest:
    return open_page(PAGE, root=root)


def press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def fields(app: AppTest) -> dict[str, str | None]:
    return {box.label: box.value for box in app.text_input}


def filled(app: AppTest, root: Path) -> AppTest:
    app.text_input(key="start-base").set_value(str(root / "inputs" / "base"))
    app.text_input(key="start-folder").set_value(str(root / "inputs" / "updates")).run()
    return press(app, "Add these updates")


def test_empty_form_says_what_is_missing(app: AppTest) -> None:
    assert not app.exception
    assert "Still missing: the base, at least one update" in words(app)
    assert next(button for button in app.button if button.label == "Check").disabled
    assert next(button for button in app.button if button.label == "Start the run").disabled


def test_folder_of_updates_order_and_removal(app: AppTest, root: Path) -> None:
    app = filled(app, root)
    assert [fields(app)[f"Name of update {n}"] for n in (1, 2)] == ["a", "b"]
    first = app.session_state[plan_form.ROWS][0]
    app.button(key=f"down-{first}").click().run()
    assert [fields(app)[f"Name of update {n}"] for n in (1, 2)] == ["b", "a"]
    folder = fields(app)["Folder of update 1"]
    assert folder is not None
    assert folder.endswith("/b")
    app.button(key=f"drop-{first}").click().run()
    assert "Name of update 2" not in fields(app)
    assert not app.exception


def test_folders_are_opened_one_by_one_and_say_what_they_hold(app: AppTest, root: Path) -> None:
    (root / "inputs" / "updates" / "empty").mkdir()
    (root / "inputs" / "updates" / "pickle").mkdir()
    (root / "inputs" / "updates" / "pickle" / "pytorch_model.bin").write_bytes(b"x")
    for chosen in (str(root), "inputs", "base", folder_picker.UP, "updates"):
        app.selectbox(key=folder_picker.OPEN).set_value(chosen).run()
        if chosen == "base":
            assert "checkpoint (qwen3), 1.9 thousand parameters" in words(app)
            press(app, "Take it as the base")
    assert app.text_input(key=folder_picker.FOLDER).value == str(root / "inputs" / "updates")
    assert app.text_input(key="start-base").value == str(root / "inputs" / "base")
    (held,) = [table.value for table in app.dataframe if "holds" in table.value]
    assert held["holds"].str.contains("update tensors, 8 of them").sum() == 2
    assert held["holds"].str.contains("only pickle weights (pytorch_model.bin)", regex=False).sum() == 1
    assert app.multiselect(key=folder_picker.TAKE).value == ["a", "b"]
    app.multiselect(key=folder_picker.TAKE).set_value(["b"]).run()
    press(app, "Add these updates")
    assert [fields(app)[f"Name of update {n}"] for n in (1,)] == ["b"]
    assert "Name of update 2" not in fields(app)
    app.text_input(key=folder_picker.FOLDER).set_value("/etc").run()
    assert "lies outside the folders that this app may use" in words(app)


def test_states_of_a_training_are_read_as_what_is_chosen(
    app: AppTest, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = remembered(monkeypatch)
    out = root / "inputs" / "out"
    for step, (_, folder) in enumerate(write_updates(out, "ab"), start=1):
        folder.rename(out / f"checkpoint-{step}")
    app.text_input(key="start-base").set_value(str(root / "inputs" / "base"))
    app.text_input(key="start-folder").set_value(str(out)).run()
    assert "states of one training" in words(app)
    press(press(app, "Add these updates"), "Check")
    increment = Path(f"{out / 'checkpoint-1'}..{out / 'checkpoint-2'}")
    assert asked[-1].states == (out / "checkpoint-1", out / "checkpoint-2")
    assert asked[-1].updates[1] == ("checkpoint-2", increment)
    app.radio(key=folder_picker.READING).set_value("experts").run()
    press(press(app, "Add these updates"), "Check")
    assert not asked[-1].states
    assert asked[-1].updates[1][1] == out / "checkpoint-2"


def test_form_survives_a_page_switch(app: AppTest, root: Path) -> None:
    app = filled(app, root)
    app.selectbox(key="start-preset").set_value("paper").run()
    app.number_input(key="set-0-paper-gcwm-eta").set_value(0.7).run()
    before = fields(app)
    app.switch_page("pages/1_Conflict.py").run()  # the overview would compute the lab run
    app.switch_page(PAGE).run()
    assert fields(app) == before
    assert app.number_input(key="set-0-paper-gcwm-eta").value == 0.7
    assert not app.exception


def test_every_setting_has_a_field_and_words(app: AppTest) -> None:
    declared = RunSettings().declared()
    app.toggle(key=plan_form.chooses_key("scale-free")).set_value(False).run()  # η has a field where nothing chooses it
    fields = {box.label: box for box in (*app.number_input, *app.selectbox)}
    assert set(declared) <= set(fields)
    for name, setting in declared.items():
        assert setting.meaning.split(":")[0].split("(")[0].strip() in fields[name].help.replace("\\", "")


def test_settings_that_do_not_fit_are_named(app: AppTest, root: Path) -> None:
    app = filled(app, root)
    app.number_input(key="set-0-scale-free-gcwm-energy").set_value(2.0).run()
    assert "setting energy" in words(app)
    assert not app.exception


def test_folders_outside_the_app_are_refused(app: AppTest, root: Path) -> None:
    app = filled(app, root)
    app.text_input(key="start-base").set_value("/etc").run()
    assert "lies outside the folders" in words(app)


def remembered(monkeypatch: pytest.MonkeyPatch, **answer: Any) -> list[RunPlan]:
    """The plans that are checked from now on; every check answers at once, with ``answer`` in place of its own."""
    asked: list[RunPlan] = []

    def run_check(plan: RunPlan) -> Any:
        asked.append(plan)
        return ANSWER | answer

    monkeypatch.setattr(plan_check, "run_check", run_check)
    return asked


def test_check_answers_for_this_plan_only(app: AppTest, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = remembered(monkeypatch)
    monkeypatch.setattr(plan_check, "available_memory", lambda: 5 * 10**9)
    app = press(filled(app, root), "Check")
    assert f"Probes: test: {NASTY} (7 prompts)" in [element.value for element in app.text]
    assert any("more memory than is free" in element.value for element in app.warning)
    assert [name for name, _ in asked[0].updates] == ["a", "b"]
    assert {box.label: box.value for box in app.metric} == {
        "Matrices to merge": "8", "To read": "2 MB", "Memory": "6 GB", "Disk": "40 bytes", "Time": "3 min"}  # fmt: skip
    assert not next(button for button in app.button if button.label == "Start the run").disabled
    assert all(NASTY not in element.value for element in (*app.markdown, *app.warning, *app.caption))
    app.number_input(key="set-0-scale-free-gcwm-energy").set_value(0.5).run()
    assert "changed since the last check" in words(app)
    assert next(button for button in app.button if button.label == "Start the run").disabled


def test_strengths_of_the_form_are_in_its_plan(app: AppTest, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = remembered(monkeypatch, updates=[{"update": "b", "kind": "delta", "strength": 0.25}])
    app = filled(app, root)
    row = app.session_state[plan_form.ROWS][1]
    for wrong in ("much", "0", "11"):
        app.text_input(key=plan_form.strength_key(row)).set_value(wrong).run()
        assert "expected its strength as a number above 0 and at most 10" in words(app)
        assert next(button for button in app.button if button.label == "Check").disabled
    app.text_input(key=plan_form.strength_key(row)).set_value("0.25").run()
    app = press(app, "Check")
    assert asked[0].strengths == {"b": 0.25}
    (table,) = [table.value for table in app.dataframe if "strength" in table.value]
    assert list(table["strength"]) == [0.25]
    # It moves with its update.
    app.button(key=f"up-{row}").click().run()
    assert press(app, "Check") is not None
    assert ([name for name, _ in asked[1].updates], asked[1].strengths) == (["b", "a"], {"b": 0.25})


def test_the_texts_that_ship_are_asked_for_by_a_word(app: AppTest, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = remembered(monkeypatch)
    app = filled(app, root)
    app.text_input(key="start-probes").set_value(GENERAL_TEXT).run()
    press(app, "Check")
    assert asked[-1].probes == GENERAL


def test_eta_is_chosen_or_given(app: AppTest, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = remembered(monkeypatch)
    app = press(filled(app, root), "Check")
    with_probes = bool(app.text_input(key="start-probes").value)
    assert dict(asked[-1].settings).get("eta") == ("auto" if with_probes else None)
    app.text_input(key="start-probes").set_value("" if with_probes else str(root)).run()
    press(app, "Check")
    assert dict(asked[-1].settings).get("eta") == (None if with_probes else "auto")
    app.toggle(key=plan_form.chooses_key("scale-free")).set_value(False).run()
    press(app, "Check")
    assert asked[-1].settings["eta"] == 1.0  # said, so that the run does not choose
    app.number_input(key="set-0-scale-free-gcwm-eta").set_value(0.5).run()
    press(app, "Check")
    assert asked[-1].settings["eta"] == 0.5
    app.selectbox(key="start-preset").set_value("paper").run()
    assert app.number_input(key="set-0-paper-gcwm-eta").value == 0.1


def test_check_runs_the_command(root: Path) -> None:
    plan = RunPlan(
        base=root / "inputs" / "base", updates=(("a", root / "inputs" / "updates" / "a"),), settings={"eta": 0.5}
    )
    assert plan_check.run_check(plan)["updates"][0]["matrices"] == 8
    wrong = RunPlan(base=root / "inputs" / "base", updates=(("a", root / "inputs" / "base" / "no"),))
    with pytest.raises(InputError, match="no"):
        plan_check.run_check(wrong)


def test_a_run_is_started_from_the_page_and_finishes(app: AppTest, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_check, "run_check", lambda plan: ANSWER)
    app = press(filled(app, root), "Check")
    app.text_input(key=start.NAME).set_value("first").run()
    app = press(app, "Start the run")
    assert not app.exception
    until = time.monotonic() + 120
    while jobs.look(root, "first").status == "running" and time.monotonic() < until:
        time.sleep(0.2)
    job = jobs.look(root, "first")
    assert job.status == "finished", job.message
    assert run_jobs.entries(root)[0].status == "complete"
    assert RunStore.open(root / "first").updates == ["a", "b"]
    app.run()
    assert "2 updates" in words(app)


def test_names_that_are_taken_or_no_folder_are_refused(root: Path) -> None:
    plan = RunPlan(base=root, updates=(("a", root),))
    write_run(root, "normal", "taken")
    with pytest.raises(InputError, match="exists already"):
        start.begin(root, "taken", plan)
    with pytest.raises(InputError, match="run name"):
        start.begin(root, "../up", plan)


def test_runs_are_listed_with_what_can_be_done(open_page: Callable[..., AppTest], root: Path) -> None:
    write_run(root, "normal", "done")
    write_run(root, "empty", "half way")
    write_run(root, "normal", "bad")
    (root / "bad" / "run.json").write_text("{")
    folder = root / ".jobs" / "never"
    folder.mkdir(parents=True)
    state = {"status": "failed", "command": ["python", "-m", "gcwm_viz", "run"]}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "log").write_text(f"gcwm_viz: {NASTY} is no base\n")
    app = open_page(PAGE, root=root)
    stands = {entry.name: entry.status for entry in run_jobs.entries(root)}
    assert stands == {"done": "complete", "half way": "interrupted", "bad": "unreadable", "never": "failed"}
    assert not app.exception
    assert f"{NASTY} is no base" in "\n".join(element.value for element in app.text)
    assert [button.label for button in app.button if button.label in ("Resume", "Dismiss")] == ["Resume", "Dismiss"]
    app = press(app, "Dismiss")
    assert "never" not in {entry.name for entry in run_jobs.entries(root)}


def test_uploaded_plan_fills_the_form(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    class Upload:
        name = "plan.yaml"
        text = ""

        def getvalue(self) -> bytes:
            return self.text.encode()

    upload = Upload()
    state: dict[str, Any] = {"start-upload": upload}
    monkeypatch.setattr(st, "session_state", state)
    updates = (("a", root / "a"), ("b", root / "b"))
    plan = RunPlan(base=root, updates=updates, strengths={"b": 0.33}, preset="paper", settings={"eta": 1})
    upload.text = plan.to_yaml()
    plan_form._use_upload()
    assert state[plan_form.PROBLEM] == ""
    assert [state[plan_form.name_key(row)] for row in state[plan_form.ROWS]] == ["a", "b"]
    assert [state[plan_form.strength_key(row)] for row in state[plan_form.ROWS]] == ["", "0.33"]
    assert state[setting_fields.FILLED] == (1, "paper", "gcwm", {"eta": 1.0})
    assert isinstance(state[setting_fields.FILLED][3]["eta"], float)
    assert state[plan_form.chooses_key("paper")] is False
    for settings, chooses in (({"eta": "auto"}, True), ({}, True), ({"eta": 0.5}, False)):
        upload.text = RunPlan(base=root, updates=updates, settings=settings).to_yaml()
        plan_form._use_upload()
        assert state[plan_form.chooses_key("scale-free")] is chooses
    for wrong, message in (
        ("base: /b", "one or more updates"),
        (upload.text.replace("eta", "etta"), "unknown setting"),
    ):
        upload.text = wrong
        plan_form._use_upload()
        assert message in state[plan_form.PROBLEM]


def test_time_left_follows_the_work_not_the_count(root: Path) -> None:
    run = write_run(root, "empty", "half")
    journal = run / "journal.jsonl"
    store = RunStore.open(run)
    lines = [{"time": 100.0, "event": "start", "done": 0, "total": 28}]
    lines += [
        {"time": 100.0 + 2 * (n + 1), "event": "matrix", "index": n, "done": n + 1, "total": 28, "label": "m",
         "seconds": 2.0} for n in range(7)
    ]  # fmt: skip
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = progress_of(run, now=115.0)
    assert (found.phase, found.done, found.total) == ("matrices", 7, len(store.keys))
    assert found.left == pytest.approx(14.0 / 7 * 21 - 1.0)
    lines += [{"time": 160.0, "event": "matrices-done"}]
    lines += [{"time": 165.0, "event": "probe", "done": 1, "total": 13, "label": "base"}]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = progress_of(run, now=165.0)
    assert (found.phase, found.done) == ("probes", 1)
    assert found.left == pytest.approx(60.0)
    assert "models scored, about 60 s left" in found.sentence
    assert progress_of(root / "nothing").phase == "starting"
    assert [duration(value) for value in (8.2, 600, 9000)] == ["8 s", "10 min", "2.5 h"]


def at_work(root: Path) -> RunStore:
    """A run of two shapes (v_proj half of the others) in its second session, held open by this process."""
    run = write_run(root, "one", "busy")
    (run / "journal.jsonl").unlink()
    store = RunStore.open(run)
    lines = [("old", 0, 9.0), ("first", 1, 1.0), ("first", 2, 1.0), (NASTY, 3, 4.0), ("first", 4, float("nan"))]
    for place, (worker, index, seconds) in enumerate(lines):
        if place in (0, 1):
            journal_line(run, 100.0, event="start", done=0, total=28)
        journal_line(run, 110.0 + place, event="matrix", index=index, done=place + 1, total=28, seconds=seconds,
                     label="m", worker=worker)  # fmt: skip
    return store


def journal_line(run: Path, time: float, **entry: str | float) -> None:
    with (run / "journal.jsonl").open("a") as file:
        file.write(json.dumps({"time": time} | entry) + "\n")


def test_workers_are_compared_on_matrices_of_one_shape_in_this_session(root: Path) -> None:
    store = at_work(root)
    found = {pace.name: pace for pace in paces(store.path, now=120.0)}
    assert set(found) == {"first", NASTY}
    assert found["first"].matrices == 3
    assert found["first"].speed == pytest.approx(2.0)  # mean of 1, 1, 4 is 2
    assert found[NASTY].speed == pytest.approx(0.5)
    assert found[NASTY].slow
    assert not found["first"].slow
    assert found["first"].silent == pytest.approx(120 - 114)
    assert paces(root / "nothing") == []


def test_the_page_shows_workers_and_who_is_slow(open_page: Callable[..., AppTest], root: Path) -> None:
    store = at_work(root)
    with store.lock():
        page = open_page(PAGE, root=root)
    assert [expander.label for expander in page.expander if "workers" in expander.label] == ["2 workers, 1 slow"]
    table = next(frame.value for frame in page.dataframe if "worker" in frame.value.columns)
    assert list(table["worker"]) == sorted(["first", NASTY])
    assert list(table["matrices"]) == [1, 3] if NASTY < "first" else [3, 1]


def test_plan_of_the_form_reads_back(root: Path) -> None:
    plan = RunPlan(base=root, updates=(("a", root),), states=(root,), settings={"memory": None, "gate": "none"})
    assert parse_plan(plan.to_yaml().encode(), "x") == plan
