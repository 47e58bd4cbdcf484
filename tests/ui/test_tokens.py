"""Tokens as HTML: the shade follows the probability, and text is never markup."""

import html
import math
import re

import pytest

from gcwm_viz.probes.generation import END, Token
from gcwm_viz.ui.tokens import legend, shaded


def shades(markup: str) -> list[float]:
    return [float(value) for value in re.findall(r"rgba\(213, 94, 0, ([\d.]+)\)", markup)]


def test_a_certain_token_has_no_shade_and_a_wrong_one_the_strongest() -> None:
    found = shades(shaded([Token("a", 1.0), Token("b", 0.7), Token("c", 0.2), Token("d", 0.0)]))
    assert found[0] == 0
    assert found == sorted(found)
    assert shades(legend()) == [0.0, 0.3, 0.6]


def test_numbers_show_on_hover() -> None:
    markup = shaded([Token("a", 0.25), Token("b", 0.0), Token("c", math.nan), Token(END, 0.5, closes=True)])
    assert 'title="probability 25 %, −log p = 1.39 nats"' in markup
    assert "−log p = inf nats" in markup
    assert "not available" in markup
    assert "the answer ends here: probability 50 %" in markup


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "$x$", "&amp;", "'"])
def test_text_is_never_markup(text: str) -> None:
    markup = shaded([Token(text, 0.5)])
    inner = re.sub(r"</?(span|wbr|br)\b[^<>]*>", "", markup)
    assert "<" not in inner
    assert ">" not in inner
    assert html.unescape(inner).replace("·", " ") == text


def test_white_space_and_the_invisible_are_visible() -> None:
    markup = shaded([Token(" a\n\tb", 1.0), Token("", 1.0), Token("\u202ex\x00\u200b", 1.0)])
    assert re.sub("<[^>]*>", "", markup) == "·a↵→b‥\\u202ex\\x00\\u200b"
