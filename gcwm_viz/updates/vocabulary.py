"""Whether two checkpoints mean the same tokens: their ``tokenizer.json`` compared, token by token."""

from pathlib import Path
from typing import Any

from gcwm_viz.checkpoints.header import read_json_object
from gcwm_viz.errors import InputError

FILE = "tokenizer.json"


def vocabulary_note(base: Path, update: Path) -> str:
    """How the vocabulary in ``update`` differs from that in ``base``; empty where it does not, or where one has no
    ``tokenizer.json`` that can be read."""
    own, other = base / FILE, update / FILE
    try:
        if not own.is_file() or not other.is_file() or own.read_bytes() == other.read_bytes():
            return ""
        known, found = _tokens(own), _tokens(other)
    except (InputError, OSError):
        return ""
    added, gone = len(found.keys() - known.keys()), len(known.keys() - found.keys())
    moved = sum(known[token] != place for token, place in found.items() if token in known)
    if not added and not gone and not moved:
        return ""
    return (
        f"another vocabulary than the base's: {added} tokens that the base does not have, {gone} missing, "
        f"{moved} under another number; the merged model keeps the base's tokenizer and embeddings"
    )


def _tokens(file: Path) -> dict[str, int]:
    content = read_json_object(file, FILE)
    model = content.get("model")
    listed: Any = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(listed, dict):
        tokens = {str(token): place for token, place in listed.items() if isinstance(place, int)}
    elif isinstance(listed, list):  # Unigram: pairs of token and score, in order
        tokens = {str(entry[0]): place for place, entry in enumerate(listed) if isinstance(entry, list) and entry}
    else:
        tokens = {}
    for entry in content.get("added_tokens") or []:
        if isinstance(entry, dict) and isinstance(entry.get("id"), int):
            tokens[str(entry.get("content"))] = entry["id"]
    return tokens
