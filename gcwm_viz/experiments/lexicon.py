"""English word forms from lemminflect's table."""

import gzip
from collections.abc import Iterator
from pathlib import Path

LONGEST_VERB, LONGEST_VERB_FORM = 8, 11
LONGEST_NOUN = 9


def verb_forms() -> list[tuple[str, str, str, str]]:
    """(lemma, past, progressive, third person) of the verbs of 3-8 letters that have one form of each."""
    forms = {(cells[0], cells[2], cells[4], cells[5]) for cells in _entries("verb", 6, LONGEST_VERB)}
    return sorted(verb for verb in forms if all(_plain(form) and len(form) <= LONGEST_VERB_FORM for form in verb))


def plurals() -> list[tuple[str, str]]:
    """(noun, plural) of the nouns of 3-9 letters that have one plural other than themselves."""
    pairs = {(cells[0], cells[2]) for cells in _entries("noun", 3, LONGEST_NOUN)}
    return sorted((noun, plural) for noun, plural in pairs if noun != plural and _plain(noun) and _plain(plural))


def _entries(kind: str, cells: int, longest: int) -> Iterator[list[str]]:
    """Table rows of a part of speech with `cells` cells: lemma, part of speech, forms."""
    import lemminflect

    path = Path(lemminflect.__file__).parent / "resources" / "infl_lu.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = line.strip().split(",")
            if len(row) == cells and row[1] == kind and 3 <= len(row[0]) <= longest:
                yield row


def _plain(word: str) -> bool:
    return word.isascii() and word.isalpha() and word.islower()
