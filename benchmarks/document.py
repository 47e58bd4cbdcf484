"""The filled parts of documents: what stands from ``<!-- NAME: written by COMMAND -->`` to ``<!-- end of NAME -->``."""

import re
from collections.abc import Mapping


def filled(document: str, parts: Mapping[str, str]) -> str:
    """The document with every part that ``parts`` names replaced by its new text; other parts stay.

    Raises ValueError for a part that the document has no place for.
    """
    for name, text in parts.items():
        document, places = re.subn(
            rf"(<!-- {name}: written by [^>]* -->\n).*?(<!-- end of {name} -->)",
            lambda found, text=text: f"{found[1]}\n{text}\n\n{found[2]}",  # type: ignore[misc]
            document,
            flags=re.DOTALL,
        )
        if places != 1:
            raise ValueError(f"part {name!r}: expected one place for it in the document, found {places}")
    return document
