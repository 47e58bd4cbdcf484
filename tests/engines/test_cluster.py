"""The engine ray on a real cluster of two nodes on loopback: the bytes of local workers, whoever is killed."""

import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import pytest

from gcwm_viz.cli import main
from gcwm_viz.engines.cluster import RayEngine
from gcwm_viz.errors import InputError
from tests.torture.small import REPOSITORY, command, contents, start, write_inputs

pytest.importorskip("ray", reason="Ray is not installed (the extra `cluster`)")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.engines.two_nodes"],
        cwd=tmp_path_factory.mktemp("elsewhere"),  # another machine has another current folder
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()
            try:
                process.wait(20)
            finally:
                process.kill()


def model(root: Path, iters: int) -> tuple[list[str], dict[str, bytes]]:
    """Inputs without probes, and the folder that a local worker made of them."""
    arguments = write_inputs(root / "inputs")
    probes = arguments.index("--probes")
    inputs = [*arguments[:probes], "--preset", "paper", "--set", f"iters={iters}"]
    assert main(["run", *inputs, "--device", "cpu", "--workers", "1", "--out", str(root / "local" / "run")]) == 0
    return inputs, contents(root / "local" / "run")


def on_ray(cluster: dict[str, Any]) -> list[str]:
    return ["--engine", "ray", "--address", cluster["address"]]


def lines(run: Path) -> list[dict[str, Any]]:
    file = run / "journal.jsonl"
    entries = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    return [entry for entry in entries if entry["event"] == "matrix"]


def wait_for(run: Path, process: subprocess.Popen[bytes], count: int = 1) -> list[dict[str, Any]]:
    """The first ``count`` finished matrices of a run at work."""
    until = time.monotonic() + 200
    while len(found := lines(run)) < count:
        assert process.poll() is None, process.returncode
        assert time.monotonic() < until
        time.sleep(0.01)
    return found


def pid_of(entry: dict[str, Any]) -> int:
    return int(entry["worker"].rpartition(" ")[2])


def test_items_are_done_once_errors_are_not_retried_and_deaths_are(cluster: dict[str, Any], tmp_path: Path) -> None:
    script = [sys.executable, "-W", "error", "-m", "tests.engines.ray_work", cluster["address"], str(tmp_path)]
    done = subprocess.run(script, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["workers"] == 2
    assert found["values"] == {f"good {n}": "cpu 1" for n in range(6)}
    assert found["after a death"] == {"dies-once 1": "cpu 1", "good 7": "cpu 1"}
    assert found["attempts of the one that died"] == 2
    assert found["error"] == "item 1 is wrong"
    assert found["attempts of the wrong one"] == 1
    assert sorted(found["reported beside it"]) == ["slow 0", "slow 1", "slow 2"]
    assert found["attempts of what always dies"] == 2
    assert "its worker or node lost each time" in found["given up"]
    assert found["no GPU"] == f"device 'cuda': the Ray cluster at {cluster['address']} has no GPU"


def test_two_nodes_give_the_bytes_of_local_processes(cluster: dict[str, Any], tmp_path: Path) -> None:
    inputs, expected = model(tmp_path, iters=20)
    run = tmp_path / "run"
    code, said = command("run", *inputs, "--out", str(run), *on_ray(cluster))
    assert code == 0, said
    assert contents(run) == expected
    assert sorted(entry["index"] for entry in lines(run)) == list(range(14))


@pytest.mark.long
def test_the_same_bytes_though_worker_driver_and_node_are_killed(cluster: dict[str, Any], tmp_path: Path) -> None:
    """A killed driver leaves no worker; nothing finished is computed again. The cluster has one node afterwards."""
    inputs, expected = model(tmp_path, iters=2000)  # some tenths of a second a matrix
    run = tmp_path / "run"
    out = os.path.relpath(run, REPOSITORY)
    process = start("run", *inputs, "--out", out, *on_ray(cluster))
    first = wait_for(run, process)
    os.kill(pid_of(first[0]), signal.SIGKILL)
    finished = wait_for(run, process, len(lines(run)) + 2)
    assert len({entry["worker"] for entry in finished}) > 1, "the run goes on in another worker"
    process.kill()
    assert process.wait() == -signal.SIGKILL
    orphans = [psutil.Process(pid) for pid in {pid_of(entry) for entry in finished} if psutil.pid_exists(pid)]
    assert psutil.wait_procs(orphans, timeout=10)[1] == []
    finished = lines(run)
    assert len(finished) < 14, "the run was over before its driver could be killed"
    files = [run / "matrices" / f"{entry['index']:05d}.safetensors" for entry in finished]
    before = [file.stat().st_ino for file in files]
    process = start("resume", str(run), *on_ray(cluster), log=tmp_path / "log")
    wait_for(run, process, len(finished) + 1)
    os.kill(cluster["second"], signal.SIGKILL)
    assert process.wait(200) == 0, (tmp_path / "log").read_text()
    assert [file.stat().st_ino for file in files] == before
    assert contents(run) == expected
    assert sorted(entry["index"] for entry in lines(run)) == list(range(14))


def test_without_an_address_a_cluster_on_loopback_is_started_and_ended() -> None:
    script = [sys.executable, "-W", "error", "-m", "tests.engines.own_cluster"]
    done = subprocess.run(script, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["workers"] == found["pids"] == 1
    assert found["listening"]
    assert all(ipaddress.ip_address(place.removeprefix("::ffff:")).is_loopback for place in found["listening"])
    assert found["left"] == []
    assert found["reports its usage"] is False


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with patch.dict(os.environ), pytest.raises(InputError, match=r"pip install 'gcwm-viz\[cluster\]'"):
        RayEngine()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--address", "127.0.0.1:1"], "--address belongs to --engine ray"),
        (["--engine", "ray", "--address", "127.0.0.1:1"], "no Ray cluster at 127.0.0.1:1"),
        (["--engine", "ray", "--address", "ray://127.0.0.1:1"], "expected HOST:PORT of the cluster's head, or auto"),
    ],
)
def test_an_address_without_a_cluster_is_refused_before_anything_is_written(
    options: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = write_inputs(tmp_path / "inputs")
    assert main(["run", *inputs, "--out", str(tmp_path / "run"), *options]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
