"""The shipped SmolLM2 example: LoRA updates of five tasks, the states of training in sequence, data and recipe.

adapters/NN_NAME/            PEFT LoRA adapters (float16), in order of arrival
sft/step_T/                  S_T of Seq. SFT for T ≥ 2 as an adapter of the same rank (S_1 is the first adapter)
train/NAME.jsonl             what was trained
probes/{dev,test}/*.jsonl    what is asked, probes.json how
recipe.json                  settings, seeds, versions, seconds, measured scores, sha256 of every file
NOTICE.md                    where facts and model come from
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gcwm_viz.errors import InputError

FORMAT = "gcwm_viz.example"
SHIPPED = Path(__file__).parent / "bundle"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "training.json")


@dataclass(frozen=True)
class ExamplePaths:
    """Where the parts lie. `updates` are in order of arrival; `sft` goes from step 1 on."""

    root: Path
    updates: dict[str, Path]
    sft: dict[int, Path]
    probes: Path
    recipe: dict[str, Any]


def locate(root: str | Path | None = None) -> ExamplePaths:
    """The shipped example, or the one trained into `root`. Raises InputError naming what is missing."""
    folder = SHIPPED if root is None else Path(root)
    path = folder / "recipe.json"
    if not path.is_file():
        raise InputError(f"{path}: expected a trained example with its recipe, found no such file")
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
        order = [str(name) for name in recipe["order"]]
        first = order[0]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, IndexError):
        raise InputError(f'{path}: expected a JSON object with "order", found something else') from None
    updates = {name: adapter_folder(folder, place, name) for place, name in enumerate(order, start=1)}
    sft = {1: updates[first]} | {step: state_folder(folder, step) for step in range(2, len(order) + 1)}
    for adapter in (*updates.values(), *sft.values()):
        for name in ADAPTER_FILES:
            if not (adapter / name).is_file():
                raise InputError(f"{adapter / name}: expected it in the example, found no such file")
    return ExamplePaths(folder, updates, sft, folder / "probes", recipe)


def adapter_folder(root: Path, place: int, name: str) -> Path:
    return root / "adapters" / f"{place:02d}_{name}"


def state_folder(root: Path, step: int) -> Path:
    return root / "sft" / f"step_{step}"


def digests(root: Path) -> dict[str, str]:
    """sha256 of every file but the recipe itself, by its place under `root`."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "recipe.json"]
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
