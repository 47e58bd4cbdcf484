"""A small real run whose examples flip, with a task of every kind."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from gcwm_viz.cli import main
from tests.torture.small import NAMES, write_inputs

CHOICES = ("1", "22", "<b>3</b>")
HOSTILE = "<img src=x onerror=p=1>*s*"
"""Part of the third question of ``first``: it would show as markup wherever it is not escaped."""


def write_flips(root: Path, name: str = "flips", options: Sequence[str] = ()) -> Path:
    """The run ``root/NAME``, its inputs in ``root/NAME-inputs``, so that an app with this run root may read them.

    ``first`` has choices, ``second`` prompts, ``third`` texts. The updates are random and large, so that choices flip.
    ``options``: more arguments of the command ``run``.
    """
    inputs = root / f"{name}-inputs"
    inputs.mkdir(parents=True)
    arguments = write_inputs(inputs)
    for update in NAMES:
        file = inputs / update / "update.safetensors"
        tensors = {key: 20 * value for key, value in load_file(file).items()}
        save_file(tensors, file, metadata={"gcwm_viz": "update"})
    for split in ("dev", "test"):
        rows = [
            {"question": f"{HOSTILE if k == 2 else ''}{k}+{k}=", "choices": list(CHOICES), "answer": k % 3}
            for k in range(24)
        ]
        _write(inputs / "probes" / split / "first.jsonl", rows)
        _write(inputs / "probes" / split / "third.jsonl", [{"text": f"number {k} and {k + 1}"} for k in range(7)])
    out = root / name
    threads = torch.get_num_threads()
    assert main(["run", *arguments, "--workers", "1", *options, "--out", str(out)]) == 0
    torch.set_num_threads(threads)
    return out


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
