"""README.md of what is exported: front matter as hubs read it, and the settings verbatim."""

from pathlib import Path
from typing import Any

import yaml

from gcwm_viz.checkpoints.hub import hub_id
from gcwm_viz.continual.run_file import InputEntry
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.export.mergekit import mergekit_yaml
from gcwm_viz.updates.strength import WHOLE

_FRONT = ("license", "license_name", "license_link", "language")
"""Entries copied from the base's own card."""
_CARD_BYTES = 1_000_000
CARD = "README.md"


def model_card(store: RunStore, step: int, remark: str = "", *, recipe: bool = True) -> str:
    """The card of a whole checkpoint; ``remark``: a sentence to say first. ``recipe``: with the configuration of
    mergekit that gives the same, where there is one; without it for a model that differs from the state of the step."""
    front = front_matter(
        store, "transformers", ["merge", "gcwm"], [base_name(store), *_update_ids(store, step)], "merge"
    )
    others = {"keep": "is the base's", "sum": "is the base's + η Σ Δ_i", "mean": "is the mean of the updates'"}
    text = (
        f"# Merged model\n\nState after step {step} of a continual merge by gcwm_viz (method of arXiv 2605.09608).\n"
        f"Target matrices are base + S_t; every other tensor {others[store.settings.continual.outside]}."
        f"{' ' * bool(remark)}{remark}\n\n"
    )
    try:
        same = mergekit_yaml(store, step) if recipe else ""
    except InputError:
        same = ""
    mergekit = f"\nThe same for mergekit:\n\n{block(same)}" if same else ""
    return front + text + settings_block(store, step) + mergekit


def front_matter(store: RunStore, library: str, tags: list[str], models: list[str], relation: str) -> str:
    """Licence and language are those of the base's card. ``models``: what the new one was made of, the base first."""
    entries: dict[str, Any] = {
        "base_model": models if len(models) > 1 else models[0],
        "base_model_relation": relation,
        "library_name": library,
        "pipeline_tag": "text-generation",
        "tags": tags,
    }
    stated = _stated(store.file.base.path / CARD)
    entries |= {name: stated[name] for name in _FRONT if name in stated}
    return f"---\n{yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)}---\n\n"


def base_name(store: RunStore) -> str:
    """The base's hub id where its folder is a snapshot of the cache, else the folder."""
    return hub_id(store.file.base.path) or store.file.base.where


def _update_ids(store: RunStore, step: int) -> list[str]:
    """Hub ids of the updates up to ``step`` that have one, each once."""
    ids = [hub_id(update.path) for update in store.file.updates[:step]]
    return list(dict.fromkeys(name for name in ids if name))


def settings_block(store: RunStore, step: int, *, paths: bool = True) -> str:
    """Inputs and settings of the run up to ``step``. paths: whole ones, else the names of the folders alone."""
    base = store.file.base
    settings = {
        "base": base.where if paths else hub_id(base.path) or base.folder,
        "updates": [_update(update, paths) for update in store.file.updates[:step]],
        **store.file.choice.to_json(),
        "step": step,
        "settings": store.settings.to_dict(),
    }
    return block(yaml.safe_dump(settings, sort_keys=False))


def _update(entry: InputEntry, paths: bool) -> dict[str, Any]:
    strength = {} if entry.strength == WHOLE else {"strength": entry.strength}
    return {"name": entry.name, "path": entry.where if paths else entry.folder} | strength


def block(text: str) -> str:
    """An indented block, which shows names from files verbatim, whatever characters they contain."""
    return "".join(f"    {line}\n" for line in text.splitlines())


def _stated(card: Path) -> dict[str, str | list[str]]:
    """Short texts of the front matter of the base's card; empty where none can be read."""
    try:
        if card.stat().st_size > _CARD_BYTES:
            return {}
        text = card.read_text(encoding="utf-8")
        parts = text.split("---\n", 2)
        front = yaml.safe_load(parts[1]) if text.startswith("---\n") and len(parts) == 3 else None
    except Exception:  # any text can be there, and file systems raise errors of their own
        return {}
    if not isinstance(front, dict):
        return {}

    def short(value: Any) -> bool:
        return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()

    return {
        name: value
        for name, value in front.items()
        if short(value) or (isinstance(value, list) and len(value) <= 100 and all(map(short, value)))
    }
