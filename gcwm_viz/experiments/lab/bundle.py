"""The shipped lab: building and locating it.

base/                        config.json, model.safetensors (float16), tokenizer: loads with transformers
updates/NN_NAME/             update.safetensors: Δ of the expert, float16, target matrices only
sft/step_T.safetensors       Seq. SFT: θ_T − θ_pre for T ≥ 2 (step 1 is the first expert)
probes/{dev,test}/NAME.jsonl, probes/representation/NAME.jsonl
recipe.json                  settings, seed, versions, measured scores
NOTICE.md                    sources of the facts
"""

import json
import platform
import time
from pathlib import Path
from typing import Any

import torch

from gcwm_viz.checkpoints.atomic import atomic_folder, write_safetensors
from gcwm_viz.experiments.bundles import (
    Bundle,
    digests,
    numbered,
    read_recipe,
    require,
    score_rows,
    versions,
    write_rows,
)
from gcwm_viz.experiments.draw import seeded
from gcwm_viz.experiments.lab.data import labelled_sets
from gcwm_viz.experiments.lab.facts import NOTICE, PACKAGES
from gcwm_viz.experiments.lab.library import Library, Report, State, apply
from gcwm_viz.experiments.lab.model import build_tokenizer, load_state, round_state
from gcwm_viz.experiments.lab.recipe import Recipe
from gcwm_viz.linalg.threads import one_thread
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.tasks import load_tasks

FORMAT = "gcwm_viz.lab"
SHIPPED = Path(__file__).parent / "bundle"
UPDATE = "update.safetensors"
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors")


def locate(root: str | Path | None = None) -> Bundle:
    """The shipped bundle, or the one under `root`. Raises InputError naming what is missing."""
    folder = SHIPPED if root is None else Path(root)
    recipe, order = read_recipe(folder, "a lab bundle")
    updates = {name: folder / "updates" / numbered(i, name) for i, name in enumerate(order, start=1)}
    sft = {step: folder / "sft" / f"step_{step}.safetensors" for step in range(2, len(order) + 1)}
    bundle = Bundle(folder, updates, {1: updates[order[0]] / UPDATE} | sft, recipe)
    files = [bundle.base / "model.safetensors", *(path / UPDATE for path in updates.values()), *sft.values()]
    require([*files, bundle.probes], "the lab bundle")
    return bundle


def build(
    seed: int,
    out: str | Path,
    *,
    recipe: Recipe | None = None,
    cache: str | Path | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Train base, experts and Seq. SFT from `seed`, write the bundle to `out` and return its recipe with the scores.

    Single-threaded, so that the bytes are reproducible on one machine; another CPU may differ in the last bits.
    `cache` stores trained states for a later build or study. `report` is called with each state that is trained.
    Raises InputError when `out` exists and is not an empty folder; `out` appears complete or not at all.
    """
    started = time.perf_counter()
    library = Library(seed, recipe, None if cache is None else Path(cache), report)
    order = library.recipe.order
    with atomic_folder(out) as folder:
        with one_thread():
            write_inputs(library, folder)
            for step, state in enumerate(library.sequence(order)[1:], start=2):
                write_update(state, folder / "sft" / f"step_{step}.safetensors")
            scores = measure(library, folder / "probes")
        sources = versions(PACKAGES)
        (folder / "NOTICE.md").write_text(NOTICE.format(**sources), encoding="utf-8")
        contents = {
            "format": FORMAT,
            "seed": seed,
            "order": list(order),
            "settings": library.recipe.to_json(),
            "dtype": "float16",
            "threads": 1,
            "versions": {"python": platform.python_version(), **versions(LIBRARIES), **sources},
            "parameters": sum(t.numel() for t in library.base().values()),
            "target_parameters": sum(t.numel() for t in library.expert(order[0]).values()),
            "seconds": round(time.perf_counter() - started, 1),
            "sha256": digests(folder, "*.safetensors"),
            "scores": scores,
        }
        (folder / "recipe.json").write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
    return contents


def write_inputs(library: Library, folder: Path) -> list[tuple[str, Path]]:
    """Base, probes and updates, as a bundle holds them; returns (task, folder) of every update in order."""
    _write_base(library, folder / "base")
    _write_probes(library, folder / "probes")
    order = library.recipe.order
    updates = [(name, folder / "updates" / numbered(i, name)) for i, name in enumerate(order, start=1)]
    for name, update in updates:
        write_update(library.expert(name), update / UPDATE)
    return updates


def measure(library: Library, probes: Path) -> list[dict[str, Any]]:
    """Rows {model, step, update, task, split, metric, value, se, n} of base, experts and Seq. SFT.

    Updates are rounded to float16 as in their files. Step t of Seq. SFT is model "step"; an expert's step is its
    position in the order.
    """
    probe = BehaviourProbe(build_tokenizer(), load_tasks(probes))
    base = library.base()
    order = library.recipe.order
    points: list[tuple[str, int, str, State]] = [("base", 0, "", {})]
    points += [("expert", i, name, library.expert(name)) for i, name in enumerate(order, start=1)]
    points += [("step", t, order[t - 1], state) for t, state in enumerate(library.sequence(order), start=1)]
    rows: list[dict[str, Any]] = []
    for model, step, update, delta in points:
        apply(library.model, base, round_state(delta))
        rows += score_rows(model, step, update, probe.score(library.model))
    return rows


def write_update(delta: State, path: Path) -> Path:
    """Write update tensors as float16, with the metadata that distinguishes an update from a checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_safetensors(path, {name: tensor.half() for name, tensor in delta.items()}, {"gcwm_viz": "update"})
    return path


def _write_base(library: Library, folder: Path) -> None:
    base = library.base()
    load_state(library.model, base)
    config = library.model.config
    config.dtype = torch.float16
    config.architectures = [type(library.model).__name__]
    config.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    write_safetensors(folder / "model.safetensors", {n: t.half() for n, t in base.items()}, {"format": "pt"})


def _write_probes(library: Library, folder: Path) -> None:
    for task in (library.tasks[name] for name in library.recipe.order):
        for split, examples in (("dev", task.dev), ("test", task.test)):
            write_rows(folder / split / f"{task.name}.jsonl", ("prompt", "answer"), examples)
    for name, rows in labelled_sets(seeded(library.recipe.data_seed, "labelled")).items():
        write_rows(folder / "representation" / f"{name}.jsonl", ("text", "label"), rows)
