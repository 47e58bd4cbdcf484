"""Full disks, read-only folders and missing rights: a sentence, finished work kept, nothing half under a final name."""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from gcwm_viz.checkpoints.header import read_header
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.writer import export_checkpoint
from gcwm_viz.cli import main
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.jobs import jobs
from gcwm_viz.runs.run import continue_run, create_run
from tests.torture.small import contents
from tests.torture.test_recovery import small_inputs

CPU = torch.device("cpu")
NOBODY = 65534


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, leave: int) -> Path:
    """A file that takes all space but ``leave`` bytes."""
    filler = place / "filler"
    filler.write_bytes(b"\0" * max(0, shutil.disk_usage(place).free - leave))
    return filler


def whole_files_only(run: Path) -> None:
    """What stands under a final name can be read to its end."""
    store = RunStore.open(run)
    for index in store.finished():
        store.rows(index)
        read_header(run / "matrices" / f"{index:05d}.safetensors")
    assert not list(run.rglob(".*.partial"))


def test_a_disk_that_fills_up_during_a_run(
    tmp_path: Path, small_disk: Path, capsys: pytest.CaptureFixture[str], record: Callable[[str, str, str], None]
) -> None:
    inputs = small_inputs(tmp_path)
    continue_run(create_run(inputs, tmp_path / "run", RunSettings()), CPU, workers=1)
    run = small_disk / "run"
    create_run(inputs, run, RunSettings())
    kept = 0
    for leave in (8_000, 40_000, 90_000):
        filler = fill(small_disk, leave)
        code = main(["resume", str(run), "--device", "cpu", "--workers", "1"])
        said = capsys.readouterr().err.splitlines()[-1]
        assert code == 2
        assert "no space left on the disk" in said
        whole_files_only(run)
        assert len(RunStore.open(run).finished()) >= kept
        kept = len(RunStore.open(run).finished())
        filler.unlink()
    assert kept
    assert main(["resume", str(run), "--device", "cpu", "--workers", "2"]) == 0
    assert contents(run) == contents(tmp_path / "run")
    record("Disk full during a run", "a 2 MB disk filled three times", "one sentence, work kept, same bytes once freed")


def test_a_disk_that_fills_up_during_an_export(tmp_path: Path, small_disk: Path) -> None:
    base = CheckpointIndex.open(small_inputs(tmp_path).base)

    def replace(name: str) -> None:
        fill(small_disk, 0)

    with pytest.raises(InputError, match="no space left on the disk"):
        export_checkpoint(base, replace, small_disk / "out", model_card="card")
    assert [item.name for item in small_disk.iterdir()] == ["filler"]


def test_too_little_space_is_told_before_anything_is_written(
    tmp_path: Path, small_disk: Path, record: Callable[[str, str, str], None]
) -> None:
    inputs = small_inputs(tmp_path)
    fill(small_disk, 500_000)
    with pytest.raises(InputError, match=r"the run needs 1\.\d+ MB, the disk has 0\.\d+ MB free"):
        create_run(inputs, small_disk / "run", RunSettings())
    base = CheckpointIndex.open(inputs.base)
    with pytest.raises(InputError, match=r"the checkpoint needs .* free"):
        export_checkpoint(base, lambda name: None, small_disk / "out", model_card="")
    assert [item.name for item in small_disk.iterdir()] == ["filler"]
    record("Too little space", "a run and an export", "told before anything is written")


def test_a_disk_mounted_read_only(
    tmp_path: Path, small_disk: Path, capsys: pytest.CaptureFixture[str], record: Callable[[str, str, str], None]
) -> None:
    """A finished run is still read there; whatever would write says that it cannot."""
    inputs = small_inputs(tmp_path)
    run = small_disk / "run"
    continue_run(create_run(inputs, run, RunSettings()), CPU, workers=1)
    (small_disk / ".jobs" / "job").mkdir(parents=True)
    (small_disk / ".jobs" / "job" / "state.json").write_text('{"status": "running"}')
    (small_disk / ".jobs" / "job" / "lock").touch()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert RunStore.open(run).status() == "complete"
    assert RunStore.open(run).state(0, 3).shape == (16, 12)
    assert jobs.look(small_disk, "job").status == "died"
    for arguments in (
        ["resume", str(run), "--device", "cpu"],
        ["export", str(run), "--step", "1", "--out", str(small_disk / "out")],
    ):
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert "cannot write" in said
        assert said.count("\n") == 1
    with pytest.raises(InputError, match="cannot write"):
        create_run(inputs, small_disk / "other", RunSettings())
    with pytest.raises(InputError, match="cannot start a job there"):
        jobs.start(small_disk, "other", [])
    record("Read-only disk", "read, resume, export, new run, job", "finished runs readable, every write refused")


def in_a_child(act: Callable[[], int]) -> tuple[int, str]:
    """Exit code and words of the command line in a forked process that ``act`` prepares and runs."""
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if not child:
            code = 70
            try:
                sys.stderr = said
                code = act()
                said.flush()
            finally:
                os._exit(code)
        status = os.waitpid(child, 0)[1]
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read()


def test_a_limit_on_file_sizes_acts_like_a_full_disk(tmp_path: Path) -> None:
    """Needs no root: the system refuses every write past the limit."""
    inputs = small_inputs(tmp_path)
    store = create_run(inputs, tmp_path / "run", RunSettings())

    def act() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
        return main(["resume", str(store.path), "--device", "cpu", "--workers", "1"])

    code, said = in_a_child(act)
    assert code == 2
    assert "cannot write (File too large)" in said
    assert "Traceback" not in said
    whole_files_only(store.path)
    continue_run(RunStore.open(store.path), CPU, workers=1)
    assert store.status() == "complete"


def test_no_permission(record: Callable[[str, str, str], None]) -> None:
    """Root may write anywhere, so a child without its rights tries."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        inputs = small_inputs(root)
        store = create_run(inputs, root / "run", RunSettings())
        mine = os.geteuid()
        for path in (root, *root.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)

        def as_nobody(*arguments: str) -> tuple[int, str]:
            def act() -> int:
                if mine == 0:
                    os.setgid(NOBODY)
                    os.setuid(NOBODY)
                return main([*arguments])

            return in_a_child(act)

        try:
            for arguments in (
                ("resume", str(store.path), "--device", "cpu"),
                ("run", "--base", str(inputs.base), "--update", f"a={inputs.updates[0][1]}", "--out", str(root / "x")),
            ):
                code, said = as_nobody(*arguments)
                assert code == 2, said
                assert "cannot write" in said
                assert said.count("\n") == 1
        finally:
            for path in (root, *root.rglob("*")):
                path.chmod(0o755)
    record("No permission", "resume and a new run", "one sentence, nothing written")


@pytest.mark.parametrize("place", ["base", "updates/b", "base/deep/er"])
def test_output_inside_an_input(tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = small_inputs(tmp_path)
    out = tmp_path / place / "out"
    updates = [part for name, path in inputs.updates for part in ("--update", f"{name}={path}")]
    assert main(["run", "--base", str(inputs.base), *updates, "--out", str(out), "--device", "cpu"]) == 2
    assert "lies inside the input" in capsys.readouterr().err
    (tmp_path / "link").symlink_to(tmp_path / place.split("/")[0])
    out = tmp_path / "link" / Path(*Path(place).parts[1:]) / "out"
    assert main(["run", "--base", str(inputs.base), *updates, "--out", str(out), "--device", "cpu"]) == 2
    assert not (tmp_path / place / "out").exists()
