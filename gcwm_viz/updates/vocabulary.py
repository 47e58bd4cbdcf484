"""Whether two checkpoints have the same vocabulary: their ``tokenizer.json`` compared, token by token; and which rows
of their embeddings belong together where they have not."""

from pathlib import Path
from typing import Any

from gcwm_viz.checkpoints.header import read_json_object
from gcwm_viz.errors import InputError

FILE = "tokenizer.json"


def vocabulary_note(base: Path, update: Path) -> str:
    """How the vocabulary in ``update`` differs from that in ``base``; empty where it does not, or where one has no
    ``tokenizer.json`` that can be read."""
    expected, own = _vocabularies(base, update)
    added, missing = len(own.keys() - expected.keys()), len(expected.keys() - own.keys())
    moved = sum(expected[token] != number for token, number in own.items() if token in expected)
    if not added and not missing and not moved:
        return ""
    return (
        f"another vocabulary than the base's: {added} tokens that the base does not have, {missing} missing, "
        f"{moved} under another number; the merged model keeps the base's tokenizer, and its embeddings and head too "
        "unless --outside merges them, in the rows of the tokens that both have"
    )


def shared_rows(base: Path, update: Path) -> tuple[list[int], list[int]] | None:
    """Rows in the base and in the update of the tokens that both have, in the base's order; None where no two
    ``tokenizer.json`` can be compared, or they do not differ."""
    expected, own = _vocabularies(base, update)
    if expected == own:
        return None
    shared = sorted((number, own[token]) for token, number in expected.items() if token in own)
    return [number for number, _ in shared], [number for _, number in shared]


def _vocabularies(base: Path, update: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Numbers by token; empty where one of them cannot be read."""
    files = base / FILE, update / FILE
    try:
        if not all(file.is_file() for file in files) or files[0].read_bytes() == files[1].read_bytes():
            return {}, {}
        return _tokens(files[0]), _tokens(files[1])
    except (InputError, OSError):
        return {}, {}


def _tokens(file: Path) -> dict[str, int]:
    content = read_json_object(file, FILE)
    model = content.get("model")
    listed: Any = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(listed, dict):
        tokens = {str(token): number for token, number in listed.items() if isinstance(number, int)}
    elif isinstance(listed, list):  # Unigram: pairs of token and score, in order
        tokens = {str(entry[0]): number for number, entry in enumerate(listed) if isinstance(entry, list) and entry}
    else:
        tokens = {}
    for entry in content.get("added_tokens") or []:
        if isinstance(entry, dict) and isinstance(entry.get("id"), int):
            tokens[str(entry.get("content"))] = entry["id"]
    return tokens
