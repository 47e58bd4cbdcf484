"""Checkpoints named by a hub id, ``org/name`` or ``org/name@revision``, through the ordinary Hugging Face cache, and
two sources written as one: ``MODEL+ADAPTER``, mergekit's notation for an adapter upon a model, and ``EARLIER..LATER``,
git's notation for what came between two states."""

import re
from collections.abc import Iterator
from pathlib import Path

from gcwm_viz.checkpoints.location import location
from gcwm_viz.errors import InputError

HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(@(?P<revision>[\w./-]{1,100}))?")
WANTED = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "tokenizer*", "merges.txt")
"""Weights, configuration and tokenizer; no pickles and no code."""
UPON, UP_TO = "+", ".."


def hub_id(folder: Path) -> str | None:
    """``org/name`` of a folder …/models--org--name/snapshots/REV of the cache, None for any other."""
    repository = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not repository.startswith("models--"):
        return None
    name = repository.removeprefix("models--").replace("--", "/")
    return name if HUB_ID.fullmatch(name) else None


def split_pair(source: str | Path) -> tuple[str, str, str] | None:
    """(first, sign, second) of a pair whose parts are each an existing path or a hub id; None for anything else, and
    where ``source`` itself is an existing path."""
    text = str(source)
    try:
        if not any(sign in text for sign in (UPON, UP_TO)) or Path(text).exists():
            return None
        return next((pair for pair in splits(text) if all(_is_there(part) for part in pair[::2])), None)
    except OSError:  # too long a name, or a folder without permission: the reader names it
        return None


def splits(text: str) -> Iterator[tuple[str, str, str]]:
    """``text`` split in two at every sign, neither part empty; the component ``..`` of a path is no sign."""
    for sign in (UPON, UP_TO):
        for at in range(1, len(text) - len(sign)):
            if text.startswith(sign, at) and not (sign == UP_TO and text[at - 1] in "/."):
                yield text[:at], sign, text[at + len(sign) :]


def _is_there(part: str) -> bool:
    return bool(HUB_ID.fullmatch(part)) or Path(part).exists()


def local_folder(source: str | Path, *, cached_only: bool = False) -> Path:
    """The folder of ``source``: itself, or the snapshot of a hub id where no such path exists; of a pair
    both, in the same notation.

    Downloads what the cache lacks, unless ``cached_only`` or ``HF_HUB_OFFLINE`` is set. Raises :class:`InputError` when
    that fails. A path that does not exist and is no hub id is returned as it is, for the reader to name.
    """
    if not isinstance(source, str | Path) or "://" in str(source):
        return location(source)
    pair = split_pair(source)
    if pair is not None:
        first, second = (local_folder(part, cached_only=cached_only).resolve() for part in pair[::2])
        return Path(f"{first}{pair[1]}{second}")
    path = Path(source)
    match = HUB_ID.fullmatch(str(source))
    if match is None or path.exists():
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

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
