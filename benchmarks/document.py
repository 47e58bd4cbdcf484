"""The generated parts of documents, from ``<!-- NAME: written by COMMAND -->`` to ``<!-- end of NAME -->``."""

import re
from collections.abc import Mapping


def filled(document: str, parts: Mapping[str, str]) -> str:
    """The document with the text of every part in ``parts`` replaced; other parts stay.

    Raises ValueError for a part that is not in the document exactly once.
    """
    for name, text in parts.items():
        document, count = re.subn(
            rf"(<!-- {name}: written by [^>]* -->\n).*?(<!-- end of {name} -->)",
            lambda match, text=text: f"{match[1]}\n{text}\n\n{match[2]}",  # type: ignore[misc]
            document,
            flags=re.DOTALL,
        )
        if count != 1:
            raise ValueError(f"part {name!r}: expected one place for it in the document, found {count}")
    return document
