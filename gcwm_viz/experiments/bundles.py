"""A folder of trained updates, and the files that every experiment writes in the same way.

recipe.json                  settings, seed, order of the tasks, versions, measured scores, sha256
sft/                         states of Seq. SFT
probes/{dev,test}/NAME.jsonl probe files
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.errors import InputError


@dataclass(frozen=True)
class Bundle:
    """Paths of a bundle's parts. `updates` are in order of arrival; `sft` goes from step 1 on."""

    root: Path
    updates: dict[str, Path]
    sft: dict[int, Path]
    recipe: dict[str, Any]

    @property
    def base(self) -> Path:
        """The base's checkpoint; only the lab's bundle holds one."""
        return self.root / "base"

    @property
    def probes(self) -> Path:
        return self.root / "probes"


def read_recipe(root: Path, kind: str) -> tuple[dict[str, Any], list[str]]:
    """recipe.json and its order of the tasks. Raises InputError naming the file and the `kind` of bundle."""
    path = root / "recipe.json"
    if not path.is_file():
        raise InputError(f"{path}: expected {kind} with its recipe, found no such file")
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
        first, *others = [str(name) for name in recipe["order"]]
    except (ValueError, KeyError, TypeError):
        raise InputError(f'{path}: expected a JSON object with "order", found something else') from None
    return recipe, [first, *others]


def require(paths: Iterable[Path], kind: str) -> None:
    """Raises InputError naming the first path that is absent."""
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: expected it in {kind}, found no such file")


def numbered(position: int, name: str) -> str:
    """Folder name of an update, its position in the order counted from 1."""
    return f"{position:02d}_{name}"


def write_rows(path: Path, fields: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """One JSON object a line, each row's values under `fields`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(dict(zip(fields, row, strict=True))) + "\n" for row in rows]
    write_bytes(path, "".join(lines).encode())


def score_rows(model: str, step: int, update: str, scores: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows {model, step, update, task, split, metric, value, se, n} as a recipe lists them.

    Six decimals; JSON has no NaN, so an undefined standard error is null.
    """
    for row in scores:
        value, se = (None if x != x else round(x, 6) for x in (row["value"], row["se"]))
        yield {"model": model, "step": step, "update": update, **row, "value": value, "se": se}


def digests(root: Path, pattern: str = "*") -> dict[str, str]:
    """sha256 of every file but the recipe itself, by its path under `root`."""
    files = [path for path in sorted(root.rglob(pattern)) if path.is_file() and path.name != "recipe.json"]
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions by name."""
    return {name: version(name) for name in packages}
