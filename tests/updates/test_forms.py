"""The table of forms in the documentation is what reading them does."""

from pathlib import Path

from tests.updates import forms


def test_the_table_says_what_reading_does(tmp_path: Path) -> None:
    text = forms.DOCUMENT.read_text(encoding="utf-8")
    assert forms.document(text, tmp_path) == text
