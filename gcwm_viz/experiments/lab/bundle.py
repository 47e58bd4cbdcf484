"""The shipped lab: build it from nothing, and find it.

base/                        config.json, model.safetensors (float16), tokenizer: loads with transformers
updates/NN_NAME/             update.safetensors: Δ of the expert, float16, target matrices only
sft/step_T.safetensors       Seq. SFT: θ_T − θ_pre for T ≥ 2 (step 1 is the first expert)
probes/{dev,test}/NAME.jsonl, probes/representation/NAME.jsonl
recipe.json                  settings, seed, versions, measured scores
NOTICE.md                    where the facts come from
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from gcwm_viz.errors import InputError
from gcwm_viz.experiments.lab import facts
from gcwm_viz.experiments.lab.data import labelled_sets
from gcwm_viz.experiments.lab.library import Library, State, apply
from gcwm_viz.experiments.lab.model import build_tokenizer, load_state, round_state
from gcwm_viz.experiments.lab.recipe import Recipe, seeded
from gcwm_viz.linalg.threads import one_thread
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.tasks import load_tasks

FORMAT = "gcwm_viz.lab"
# One entry only: safetensors writes several in no fixed order, and a build must give the same bytes again.
UPDATE_METADATA = {"gcwm_viz": "update"}
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors")


@dataclass(frozen=True)
class BundlePaths:
    """Where the parts of a bundle lie. `updates` are in order of arrival; `sft` goes from step 1 on."""

    root: Path
    base: Path
    updates: dict[str, Path]
    sft: dict[int, Path]
    probes: Path
    recipe: dict[str, Any]


def locate(root: str | Path | None = None) -> BundlePaths:
    """The shipped bundle, or the one under `root`. Raises InputError naming what is missing."""
    folder = Path(__file__).parent / "bundle" if root is None else Path(root)
    path = folder / "recipe.json"
    if not path.is_file():
        raise InputError(f"{path}: expected a lab bundle with its recipe, found no such file")
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
        order = [str(name) for name in recipe["order"]]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise InputError(f'{path}: expected a JSON object with "order", found something else') from None
    updates = {name: folder / "updates" / _update_name(i, name) for i, name in enumerate(order, start=1)}
    sft = {step: folder / "sft" / f"step_{step}.safetensors" for step in range(2, len(order) + 1)}
    needed = [folder / "base" / "model.safetensors", *(p / "update.safetensors" for p in updates.values())]
    for file in (*needed, *sft.values(), folder / "probes"):
        if not file.exists():
            raise InputError(f"{file}: expected it in the lab bundle, found no such file")
    first = {1: updates[order[0]] / "update.safetensors"} if order else {}
    return BundlePaths(folder, folder / "base", updates, {**first, **sft}, folder / "probes", recipe)


def build(
    seed: int,
    out: str | Path,
    *,
    recipe: Recipe | None = None,
    cache: str | Path | None = None,
    report: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train base, experts and Seq. SFT from `seed`, write the bundle to `out` and return its recipe with the scores.

    Single-threaded, so that a machine gives the same bytes again; another CPU may differ in the last bits. `cache`
    keeps trained states for a later build or study. `report` is told what is being done. Raises InputError when
    `out` exists and is not an empty folder; nothing half-written is left at `out`.
    """
    out = Path(out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out}: expected a new or empty folder, found something there already")
    started = time.perf_counter()
    library = Library(seed, recipe, None if cache is None else Path(cache), report)
    order = library.recipe.order
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        with one_thread():
            _write_base(library, part / "base")
            _write_probes(library, part / "probes")
            for i, name in enumerate(order, start=1):
                _save(library.expert(name), part / "updates" / _update_name(i, name) / "update.safetensors")
            for step, state in enumerate(library.sequence(order), start=1):
                if step > 1:
                    _save(state, part / "sft" / f"step_{step}.safetensors")
            scores = measure(library, part / "probes")
        (part / "NOTICE.md").write_text(facts.NOTICE.format(**facts.package_versions()), encoding="utf-8")
        written = {
            "format": FORMAT,
            "seed": seed,
            "order": list(order),
            "settings": library.recipe.to_json(),
            "dtype": "float16",
            "threads": 1,
            "versions": {"python": platform.python_version(), **{n: version(n) for n in LIBRARIES}}
            | facts.package_versions(),
            "parameters": sum(t.numel() for t in library.base().values()),
            "target_parameters": sum(t.numel() for t in library.expert(order[0]).values()),
            "seconds": round(time.perf_counter() - started, 1),
            "sha256": {str(p.relative_to(part)): _digest(p) for p in sorted(part.rglob("*.safetensors"))},
            "scores": scores,
        }
        (part / "recipe.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
        part.chmod(0o755)
        if out.exists():
            out.rmdir()
        part.rename(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return written


def measure(library: Library, probes: Path) -> list[dict[str, Any]]:
    """Rows {model, step, update, task, split, metric, value, se, n} of base, experts and Seq. SFT, as they ship.

    Updates are rounded to float16 as in their files. Step t of Seq. SFT is model "step"; experts have their place in
    the order as step.
    """
    probe = BehaviourProbe(build_tokenizer(), load_tasks(probes))
    base = library.base()
    order = library.recipe.order
    points: list[tuple[str, int, str, State]] = [("base", 0, "", {})]
    points += [("expert", i, name, library.expert(name)) for i, name in enumerate(order, start=1)]
    points += [("step", t, order[t - 1], state) for t, state in enumerate(library.sequence(order), start=1)]
    rows = []
    for model, step, update, delta in points:
        apply(library.model, base, round_state(delta))
        for row in probe.score(library.model):
            value, se = round(row["value"], 6), round(row["se"], 6)
            rows.append({"model": model, "step": step, "update": update, **row, "value": value, "se": se})
    return rows


def _write_base(library: Library, folder: Path) -> None:
    base = library.base()
    folder.mkdir(parents=True)
    load_state(library.model, base)
    config = library.model.config
    config.dtype = torch.float16
    config.architectures = [type(library.model).__name__]
    config.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    save_file({n: t.half() for n, t in base.items()}, folder / "model.safetensors", metadata={"format": "pt"})


def _write_probes(library: Library, folder: Path) -> None:
    for task in (library.tasks[name] for name in library.recipe.order):
        for split, examples in (("dev", task.dev), ("test", task.test)):
            _lines(folder / split / f"{task.name}.jsonl", examples, ("prompt", "answer"))
    for name, rows in labelled_sets(seeded(library.recipe.data_seed, "labelled")).items():
        _lines(folder / "representation" / f"{name}.jsonl", rows, ("text", "label"))


def _lines(path: Path, rows: Sequence[tuple[str, str]], fields: tuple[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(dict(zip(fields, row, strict=True))) + "\n" for row in rows), encoding="utf-8")


def _save(delta: State, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.half() for name, tensor in delta.items()}, path, metadata=UPDATE_METADATA)


def _update_name(place: int, name: str) -> str:
    return f"{place:02d}_{name}"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
