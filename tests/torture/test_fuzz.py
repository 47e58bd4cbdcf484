"""Seeded faults in every kind of file that is read: a result or one clean sentence, soon, and in little memory."""

import random
import resource
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gcwm_viz import open_run
from gcwm_viz.checkpoints.header import read_header
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.jobs import jobs
from gcwm_viz.jobs.progress import progress_of
from gcwm_viz.probes.tasks import load_labelled, load_tasks
from gcwm_viz.runs.inputs import reopen_inputs
from gcwm_viz.runs.run import continue_run
from gcwm_viz.updates.pairing import open_update, plan
from tests.checkpoints import tiny
from tests.torture.mutations import mutate
from tests.torture.small import write_inputs
from tests.torture.test_recovery import small_run

KINDS = ("header", "shard index", "adapter config", "probe lines", "run.json", "journal", "job state")
SLOWEST = 5.0
MEMORY = 400 * 2**20


def header(root: Path) -> tuple[Path, Callable[[], None]]:
    folder = tiny.save(tiny.model("qwen3", seed=1), root / "checkpoint")
    return folder / "model.safetensors", lambda: read_header(folder / "model.safetensors")  # type: ignore[return-value]


def shard_index(root: Path) -> tuple[Path, Callable[[], None]]:
    base = CheckpointIndex.open(tiny.save(tiny.model("qwen3"), root / "base"))
    folder = tiny.save(tiny.model("qwen3", seed=1), root / "sharded", max_shard_size="8KB")

    def read() -> None:
        source = open_update("x", folder, base)
        source.delta(plan(base, [source]).keys[0])

    return folder / "model.safetensors.index.json", read


def adapter_config(root: Path) -> tuple[Path, Callable[[], None]]:
    base = CheckpointIndex.open(tiny.save(tiny.model("qwen3"), root / "base"))
    settings: dict[str, Any] = {"r": 2, "target_modules": ["q_proj"], "alpha_pattern": {"layers.1.self_attn.q_proj": 3}}
    folder = tiny.lora("qwen3", root / "adapter", **settings)[0]

    def read() -> None:
        source = open_update("x", folder, base)
        source.delta(plan(base, [source]).keys[0])

    return folder / "adapter_config.json", read


def probe_lines(root: Path) -> tuple[Path, Callable[[], None]]:
    write_inputs(root)
    file = root / "probes" / "dev" / "first.jsonl"

    def read() -> None:
        shutil.copy(file, root / "probes" / "representation" / "copy.jsonl")
        assert all(text.encode() for task in load_tasks(root / "probes") for text in getattr(task, "prompts", ()))
        load_labelled(root / "probes")

    content = file.read_text().splitlines()
    file.write_text("\n".join(f'{line[:-1]}, "text": "t{n}", "label": "{n % 2}"}}' for n, line in enumerate(content)))
    return file, read


def run_file(root: Path) -> tuple[Path, Callable[[], None]]:
    continue_run(small_run(root, root / "run"), torch.device("cpu"), workers=1)

    def read() -> None:
        run = open_run(root / "run")
        assert run.status in ("complete", "running", "interrupted")
        run.store.check_settings()
        run.store.seconds()
        for name in run.tables:
            _ = run.tables[name]
        run.store.state(0, run.steps)
        reopen_inputs(run.store)

    return root / "run" / "run.json", read


def journal(root: Path) -> tuple[Path, Callable[[], None]]:
    run_file(root)
    run = RunStore.open(root / "run")

    def read() -> None:
        assert run.status() in ("complete", "running", "interrupted")
        run.check_settings()
        assert run.finished() <= run.seconds().keys()
        progress_of(run.path)

    return run.path / "journal.jsonl", read


def job_state(root: Path) -> tuple[Path, Callable[[], None]]:
    folder = root / ".jobs" / "job"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text('{"status": "running", "command": ["a", "b"], "started": 1.5, "child": 3}')
    return folder / "state.json", lambda: jobs.look(root, "job")  # type: ignore[return-value]


@pytest.mark.filterwarnings("ignore:invalid escape")
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_end_in_a_result_or_one_sentence(
    tmp_path: Path, kind: str, torture: bool, record: Callable[[str, str, str], None]
) -> None:
    builders = (header, shard_index, adapter_config, probe_lines, run_file, journal, job_state)
    file, read = dict(zip(KINDS, builders, strict=True))[kind](tmp_path)
    read()
    good = file.read_bytes()
    if kind == "header":  # the weights stay as they are
        length = 8 + struct.unpack("<Q", good[:8])[0]
        good, weights = good[:length], good[length:]
    # The fast version tries 2,000 files in all, the long one 2,000 of each kind.
    wanted = 2000 if torture else 2000 // len(KINDS) + 1
    limit = 25.0 if torture else 6.0
    generator = random.Random(kind)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = tried = longest = 0
    slowest = 0.0
    end = time.monotonic() + limit
    while tried < wanted and time.monotonic() < end:
        damaged = mutate(good, generator)
        if kind == "header" and generator.random() < 0.7:  # an honest length, so that what follows is looked at
            damaged = struct.pack("<Q", max(0, len(damaged) - 8)) + damaged[8:]
        file.write_bytes(damaged + weights if kind == "header" else damaged)
        began = time.monotonic()
        try:
            read()
        except InputError as error:
            refused += 1
            longest = max(longest, len(str(error)) if "\n" not in str(error) else 10**9)
        slowest = max(slowest, time.monotonic() - began)
        tried += 1
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024
    assert longest < 3000
    assert slowest < SLOWEST
    assert grown < MEMORY
    assert tried >= wanted / 10, "too slow to mean anything"
    record(
        "Damaged files",
        f"{tried} of kind {kind}",
        f"{refused} refused in one sentence, {tried - refused} read; slowest {slowest:.2f} s, memory "
        f"+{grown / 2**20:.0f} MB",
    )


@pytest.mark.parametrize("claimed", [2**20, 2**40, 2**63])
def test_a_lying_length_takes_no_memory(tmp_path: Path, claimed: int) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", claimed) + b"{}" + b" " * 100)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError):
        CheckpointIndex.open(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def test_only_a_damaged_journal_is_not_a_damaged_run(tmp_path: Path) -> None:
    """Garbage in the journal costs computing, never a result: it is resumed to the same numbers."""
    run = small_run(tmp_path, tmp_path / "run").path
    continue_run(RunStore.open(run), torch.device("cpu"), workers=1)
    expected = (run / "tables" / "matrices.parquet").read_bytes()
    lines = (run / "journal.jsonl").read_bytes().splitlines()
    hostile = [b'{"event": "matrix"}', b'{"event": "matrix", "index": [1]}', b'{"event": "matrix", "index": 99999}']
    hostile += [b'{"event": "matrix", "index": 1, "seconds": "x"}', b"[" * 5000, b'{"event": 3}', b"\xff\xfe"]
    (run / "journal.jsonl").write_bytes(b"\n".join([*hostile, *lines[:4], *hostile]))
    continue_run(RunStore.open(run), torch.device("cpu"), workers=1)
    assert (run / "tables" / "matrices.parquet").read_bytes() == expected
