"""What is filled in a document is what its command writes there."""

from types import ModuleType

import pytest

from benchmarks import calibration, rivals, scale_table, strength, study, table
from benchmarks.document import filled

PAGE = "a\n<!-- means: written by make study -->\nold\n<!-- end of means -->\nb\n<!-- end of more -->\n"


@pytest.mark.parametrize(
    "page", [table, scale_table, study, calibration, strength, rivals], ids=lambda page: page.__name__
)
def test_documents_say_what_the_results_that_ship_say(page: ModuleType) -> None:
    text = page.DOCUMENT.read_text(encoding="utf-8")
    assert page.document(text) == text


def test_only_the_named_part_is_replaced_and_once_is_enough() -> None:
    once = filled(PAGE, {"means": r"| \1 |"})
    assert once == PAGE.replace("\nold\n", "\n\n| \\1 |\n\n")
    assert filled(once, {"means": r"| \1 |"}) == once
    assert filled(PAGE, {}) == PAGE


@pytest.mark.parametrize("text", ["no place", PAGE + PAGE])
def test_a_part_has_one_place(text: str) -> None:
    with pytest.raises(ValueError, match="'means': expected one place"):
        filled(text, {"means": "new"})
