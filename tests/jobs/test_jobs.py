"""Jobs as processes: started once, watched, cancelled, found dead."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gcwm_viz.errors import InputError
from gcwm_viz.jobs import jobs, supervisor
from gcwm_viz.jobs.progress import progress_of


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Let a job run a small script in place of the command line; returns the function that sets the script."""
    package = tmp_path / "stand-in" / "gcwm_viz"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(jobs, "_PACKAGE_ROOT", str(tmp_path / "stand-in"))
    monkeypatch.chdir(tmp_path)

    def write(script: str) -> None:
        (package / "__main__.py").write_text(script)

    return write


def wait_for(root: Path, status: str, seconds: float = 10.0) -> jobs.Job:
    until = time.monotonic() + seconds
    while (job := jobs.look(root, "job")).status != status and time.monotonic() < until:
        time.sleep(0.05)
    assert job.status == status, job
    return job


def test_job_runs_to_its_end(tmp_path: Path, command: Callable[[str], None]) -> None:
    command("import sys; print('done with', *sys.argv[1:])")
    assert jobs.look(tmp_path, "job").status == "none"
    assert jobs.start(tmp_path, "job", ["run", "--out", "x"])
    job = wait_for(tmp_path, "finished")
    assert job.message == "done with run --out x"
    assert job.command[:3] == (sys.executable, "-m", "gcwm_viz")
    assert job.started <= time.time()


def test_error_is_reported_with_its_last_line(tmp_path: Path, command: Callable[[str], None]) -> None:
    command("import sys; print('working'); print('gcwm_viz: no such folder', file=sys.stderr); sys.exit(2)")
    jobs.start(tmp_path, "job", [])
    assert wait_for(tmp_path, "failed").message == "gcwm_viz: no such folder"


def test_never_runs_twice_and_can_run_again(tmp_path: Path, command: Callable[[str], None]) -> None:
    command("import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)")
    assert jobs.start(tmp_path, "job", [])
    assert not jobs.start(tmp_path, "job", [])
    assert jobs.look(tmp_path, "job").status == "running"
    (tmp_path / "go").touch()
    wait_for(tmp_path, "finished")
    assert jobs.start(tmp_path, "job", [])
    wait_for(tmp_path, "finished")


def test_cancel_lets_the_run_stop_by_itself(tmp_path: Path, command: Callable[[str], None]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").touch()
    command("import pathlib, sys, time\nwhile not pathlib.Path('run/cancel').exists(): time.sleep(0.02)\nsys.exit(3)")
    jobs.start(tmp_path, "job", [])
    jobs.cancel(tmp_path, "job", run)
    wait_for(tmp_path, "cancelled")
    state = json.loads((tmp_path / ".jobs" / "job" / "state.json").read_text())
    assert state["exit_code"] == 3


def test_cancel_ends_a_process_that_does_not_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 0.2)
    (tmp_path / "cancel").touch()
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    try:
        supervisor.main(tmp_path, lock, [sys.executable, "-c", "import time; time.sleep(60)"])
    finally:
        os.close(lock)
    assert json.loads((tmp_path / "state.json").read_text())["status"] == "cancelled"


def test_killed_worker_is_found_dead_and_can_be_started_again(tmp_path: Path, command: Callable[[str], None]) -> None:
    command("import time; time.sleep(60)")
    jobs.start(tmp_path, "job", [])
    state_file = tmp_path / ".jobs" / "job" / "state.json"
    while "child" not in (state := json.loads(state_file.read_text())):
        time.sleep(0.02)
    os.kill(state["worker"], signal.SIGKILL)
    time.sleep(0.1)
    assert jobs.look(tmp_path, "job").status == "running"  # its child still works, so a second start must wait
    assert not jobs.start(tmp_path, "job", [])
    os.kill(state["child"], signal.SIGKILL)
    wait_for(tmp_path, "died")
    command("")
    assert jobs.start(tmp_path, "job", [])
    wait_for(tmp_path, "finished")


def test_progress_of_a_study_is_the_newest_whole_line(tmp_path: Path) -> None:
    assert progress_of(tmp_path).phase == "starting"
    line = '{"event": "matrix", "done": %d, "total": 4, "label": "m"}\n'
    (tmp_path / "journal.jsonl").write_text(line % 1 + line % 2 + (line % 3)[:20])
    assert progress_of(tmp_path).sentence == "2 of 4 matrices merged"
    (tmp_path / "journal.jsonl").write_text(line.replace("matrix", "probe") % 4)
    assert progress_of(tmp_path).sentence == "4 of 4 models scored"
    for event, words in (("piece", "parts of the forecast computed"), ("plan", "plans scored")):
        (tmp_path / "journal.jsonl").write_text(line.replace("matrix", event) % 4)
        assert progress_of(tmp_path).sentence == f"4 of 4 {words}"
        with (tmp_path / "journal.jsonl").open("a") as journal:
            journal.write(line.replace("matrix", "complete") % 4)
        assert progress_of(tmp_path).sentence == f"4 of 4 {words}"
    with (tmp_path / "journal.jsonl").open("a") as journal:
        journal.write('{"event": "start"}\n')
    assert progress_of(tmp_path).sentence == "Starting: reading the inputs"


def test_a_shell_at_work_is_asked_to_stop_through_its_folder(tmp_path: Path) -> None:
    jobs.cancel(tmp_path, "job", tmp_path / "run")  # nobody works there: nothing is left behind
    assert not list(tmp_path.iterdir())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").touch()
    jobs.cancel(tmp_path, "job", tmp_path / "run")
    assert (tmp_path / "run" / "cancel").is_file()
    assert jobs.cancel_asked(tmp_path, "job", tmp_path / "run")


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "x" * 65, "a b"])
def test_names_that_are_no_folder_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="run name"):
        jobs.valid_name(name)
