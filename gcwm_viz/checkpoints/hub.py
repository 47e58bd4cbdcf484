"""Checkpoints named by a hub id, ``org/name`` or ``org/name@revision``, through the ordinary Hugging Face cache."""

import re
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from gcwm_viz.checkpoints.location import location
from gcwm_viz.errors import InputError

HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(@(?P<revision>[\w./-]{1,100}))?")
WANTED = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "tokenizer*", "merges.txt")
"""Weights, configuration and tokenizer; no pickles and no code."""


def hub_id(folder: Path) -> str | None:
    """``org/name`` of a folder …/models--org--name/snapshots/REV of the cache, None for any other."""
    repository = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not repository.startswith("models--"):
        return None
    name = repository.removeprefix("models--").replace("--", "/")
    return name if HUB_ID.fullmatch(name) else None


def split_lora(source: str | Path) -> tuple[str, str] | None:
    """``MODEL+ADAPTER``, mergekit's notation for an adapter upon a model, in its two parts, each an existing path or
    a hub id; None for anything else, and where ``source`` itself is an existing path."""
    text = str(source)
    try:
        if "+" not in text or Path(text).exists():
            return None
        return next((p for p in splits(text) if all(HUB_ID.fullmatch(part) or Path(part).exists() for part in p)), None)
    except OSError:  # too long a name, or a folder without permission: the reader names it
        return None


def splits(text: str) -> Iterator[tuple[str, str]]:
    """``text`` split in two at every +, neither part empty."""
    for at, letter in enumerate(text):
        if letter == "+" and 0 < at < len(text) - 1:
            yield text[:at], text[at + 1 :]


def local_folder(source: str | Path, *, cached_only: bool = False) -> Path:
    """The folder of ``source``: itself, or the snapshot of a hub id where no such path exists; of ``MODEL+ADAPTER``
    both, in the same notation.

    Downloads what the cache lacks, unless ``cached_only`` or ``HF_HUB_OFFLINE`` is set. Raises :class:`InputError` when
    that fails. A path that does not exist and is no hub id is returned as it is, for the reader to name.
    """
    if not isinstance(source, str | Path) or "://" in str(source):
        return location(source)
    parts = split_lora(source)
    if parts is not None:
        return Path("+".join(str(local_folder(part, cached_only=cached_only).resolve()) for part in parts))
    path = Path(source)
    match = HUB_ID.fullmatch(str(source))
    if match is None or path.exists():
        return path
    try:
        snapshot = snapshot_download(
            match["repo"], revision=match["revision"], allow_patterns=list(WANTED), local_files_only=cached_only
        )
    except LocalEntryNotFoundError:
        raise InputError(
            f"{source}: no such folder, and as a hub id it is not in the local cache; fetch it once with "
            f"`hf download {match['repo']}` where there is a network"
        ) from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise InputError(f"{source}: no such folder, and the hub said: {str(error).splitlines()[0][:200]}") from None
    return Path(snapshot)
