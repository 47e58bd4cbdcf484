"""kill -9 inside a matrix, a write, a probe, an export: what resumes ends in the bytes of an undisturbed run."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from gcwm_viz.cli import main
from gcwm_viz.continual.store import RunStore
from gcwm_viz.experiments.lab.bundle import locate
from tests.torture.small import contents, start, write_inputs

KILLING = str(Path(__file__).parent / "killing")
PLACES = (
    ("in a matrix", "open:matrices/.:{few}:{brief}"),
    ("before a result counts", "os.rename:matrices/:{few}:0"),
    ("in a table", "open:tables/.:{few}:{moment}"),
    ("before a table counts", "os.rename:tables/:{few}:0"),
    ("in a probe", "os.rename:probes/:{few}:{brief}"),
    ("before scores count", "os.rename:probes/:{few}:0"),
)
EXPORTS = ("open:.{out}.partial:{few}:{moment}", "os.rename:.{out}.partial:{few}:0")


def setting(template: str, generator: random.Random, out: str = "") -> str:
    return template.format(
        few=generator.randint(1, 3), brief=generator.uniform(0, 0.3), moment=generator.uniform(0, 0.003), out=out
    )


def killed_at(place: str, *arguments: str) -> bool:
    """Run the command until it is killed at ``place``; False where it ended before. No process of it is left."""
    process = start(*arguments, GCWM_KILL=place, PYTHONPATH=KILLING)
    code = process.wait(200)
    assert code in (0, -signal.SIGKILL), (place, code)
    _all_gone(process.pid)
    return code == -signal.SIGKILL


def killed_after(seconds: float, run: Path, *arguments: str) -> bool:
    """Kill the command ``seconds`` after it has begun to work on ``run``."""
    journal = run / "journal.jsonl"
    before = journal.stat().st_size if journal.is_file() else 0
    process = start(*arguments)
    until = time.monotonic() + 100
    while process.poll() is None and time.monotonic() < until:
        if journal.is_file() and journal.stat().st_size > before:
            break
        time.sleep(0.005)
    time.sleep(seconds)
    process.kill()
    code = process.wait()
    _all_gone(process.pid)
    return code == -signal.SIGKILL


def _all_gone(session: int) -> None:
    until = time.monotonic() + 5
    while (left := _members(session)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not left, left


def _members(session: int) -> list[int]:
    found = []
    for process in psutil.process_iter(["pid", "status"]):
        try:
            if os.getsid(process.pid) == session and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def test_killed_anywhere_the_end_is_the_same(
    tmp_path: Path, torture: bool, record: Callable[[str, str, str], None]
) -> None:
    generator = random.Random(20 if torture else 7)
    if torture:
        bundle = locate()
        updates = [part for name, path in bundle.updates.items() for part in ("--update", f"{name}={path}")]
        inputs = ["--base", str(bundle.base), *updates, "--probes", str(bundle.probes), "--device", "cpu"]
    else:
        inputs = write_inputs(tmp_path / "inputs")
    whole, run = tmp_path / "whole" / "run", tmp_path / "killed" / "run"
    assert main(["run", *inputs, "--out", str(whole), "--workers", "1"]) == 0
    steps = str(len(RunStore.open(whole).updates))
    assert main(["export", str(whole), "--step", steps, "--out", str(tmp_path / "whole" / "merged")]) == 0
    expected = contents(whole)

    wanted = 33 if torture else 6  # some end before the kill lands
    counts: dict[str, int] = {}
    finished = 0
    plan = _plan(generator, wanted - (6 if torture else 2), torture)
    end = time.monotonic() + (480 if torture else 60)
    for number, (name, place) in enumerate(plan):
        if time.monotonic() > end:
            break
        arguments = ["resume", str(run)] if (run / "run.json").is_file() else ["run", *inputs, "--out", str(run)]
        arguments += ["--workers", "2" if torture or number == 0 else "1"]  # each loads transformers
        if name == "at a random moment":
            killed = killed_after(place, run, *arguments)
        else:
            killed = killed_at(place, *arguments)
        if killed:
            counts[name] = counts.get(name, 0) + 1
        elif torture:  # this run is complete; the next kill hits a new one
            assert contents(run) == expected
            finished += 1
            run = tmp_path / "killed" / str(finished) / "run"  # of the same name, which run.json holds
            run.parent.mkdir()
    if not (run / "run.json").is_file():
        assert main(["run", *inputs, "--out", str(run), "--workers", "1"]) == 0
    assert main(["resume", str(run), "--device", "cpu", "--workers", "1"]) == 0
    assert contents(run) == expected

    out = tmp_path / "killed" / "merged"
    for number in range(6 if torture else 2):
        place = setting(EXPORTS[number % 2], generator, out.name)
        if killed_at(place, "export", str(run), "--step", steps, "--out", str(out)):
            counts["in an export"] = counts.get("in an export", 0) + 1
        assert not out.exists() or contents(out).keys() == contents(tmp_path / "whole" / "merged").keys()
        if out.exists():
            break
    if not out.exists():
        assert main(["export", str(run), "--step", steps, "--out", str(out)]) == 0
    card = {"README.md": contents(out)["README.md"]}
    assert contents(out) == contents(tmp_path / "whole" / "merged") | card
    assert not list(out.parent.glob(".*")), "a half export is left"
    events = [json.loads(line)["event"] for line in (run / "journal.jsonl").read_text().splitlines()]
    assert events[-1] == "complete"
    kills = sum(counts.values())
    assert kills >= (wanted * 0.4 if torture else 2), counts
    record(
        "Kill -9, then resume",
        f"{kills} kills: " + ", ".join(f"{count} {name}" for name, count in counts.items()),
        "tables, matrices, scores and exported weights byte-identical to an undisturbed run, whatever the number of "
        "workers; no process left",
    )


def _plan(generator: random.Random, kills: int, torture: bool) -> list[tuple[str, Any]]:
    if not torture:
        chosen = [PLACES[0], PLACES[2], PLACES[4], generator.choice((PLACES[1], PLACES[3], PLACES[5]))]
        order = {place: number for number, place in enumerate(PLACES)}
        return [(name, setting(place, generator)) for name, place in sorted(chosen, key=lambda one: order[one])]
    plan: list[tuple[str, Any]] = []
    for number in range(kills):
        if number % 2:
            name, place = PLACES[(number // 2) % len(PLACES)]
            plan.append((name, setting(place, generator)))
        else:
            plan.append(("at a random moment", generator.uniform(0, 4)))
    return plan


@pytest.mark.parametrize("left", [[], ["matrices"], ["matrices", "probes", "lock"], ["matrices", ".run.json.partial"]])
def test_killed_while_the_folder_was_made(tmp_path: Path, left: Any) -> None:
    """Before run.json is there, a new run takes the folder again."""
    from tests.torture.test_recovery import small_run

    run = tmp_path / "run"
    run.mkdir()
    for name in left:
        if name in ("matrices", "probes"):
            (run / name).mkdir()
        else:
            (run / name).write_bytes(b'{"format": "gcwm_v')
    store = small_run(tmp_path, run)
    assert store.status() == "interrupted"
    assert {item.name for item in run.iterdir()} <= {"matrices", "probes", "lock", "run.json"}
