"""A model small enough to merge, probe and export in a second, and the command line in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from gcwm_viz.experiments.lab.model import ModelShape, build_tokenizer, new_model, target_names

REPOSITORY = Path(__file__).resolve().parents[2]
_PASSING = ("journal.jsonl", "lock", "session")
NAMES = ("first", "second", "third")


def write_inputs(root: Path) -> list[str]:
    """Base, three updates and probes below ``root``; the arguments of ``run`` that name them."""
    generator = torch.Generator().manual_seed(3)
    model = new_model(ModelShape(hidden=16, intermediate=24, layers=2, heads=2, kv_heads=1, head_dim=8), generator)
    model.save_pretrained(root / "base")
    build_tokenizer().save_pretrained(root / "base")
    arguments = ["--base", str(root / "base")]
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    for update in NAMES:
        folder = root / update
        folder.mkdir()
        tensors = {name: 0.02 * torch.randn(shapes[name], generator=generator) for name in target_names(shapes)}
        save_file(tensors, folder / "update.safetensors", metadata={"gcwm_viz": "update"})
        arguments += ["--update", f"{update}={folder}"]
    for split in ("dev", "test"):
        (root / "probes" / split).mkdir(parents=True)
        for update in NAMES:
            lines = [{"prompt": f"{update} {number}=", "answer": str(number % 3)} for number in range(6)]
            write_lines(root / "probes" / split / f"{update}.jsonl", lines)
    (root / "probes" / "representation").mkdir()
    lines = [{"text": f"number {number}", "label": str(number % 2)} for number in range(20)]
    write_lines(root / "probes" / "representation" / "parity.jsonl", lines)
    return [*arguments, "--probes", str(root / "probes"), "--device", "cpu"]


def write_lines(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def start(*arguments: str, log: Path | None = None, **environment: str) -> subprocess.Popen[bytes]:
    """``gcwm-viz ARGUMENTS``, in a session of its own, output to ``log``."""
    with (log or Path(os.devnull)).open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "gcwm_viz", *arguments],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            start_new_session=True,
        )


def command(*arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and output of ``gcwm-viz ARGUMENTS``."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        process = start(*arguments, log=log, **environment)
        try:
            code = process.wait(300)
        finally:
            process.kill()
            process.wait()
        return code, log.read_text(errors="replace")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that must not depend on how often the work was interrupted: all but journal, lock and session."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(f.relative_to(folder)): f.read_bytes() for f in files if f.name not in _PASSING}
