"""Numbers, literal text and categories."""

import math
from typing import Any

import numpy as np
import pytest

from gcwm_viz.figures import theme


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.12345, "0.123"), (0.5, "0.500"), (12.345, "12.3"), (123.4, "123"), (1234.5, "1,234"), (12, "12"), (0, "0"),
        (4.2e-5, "4.20e-05"), (1.5e7, "1.50e+07"), (float("nan"), "n/a"), (None, "n/a"), (np.float64(-0.25), "-0.250"),
        (np.int64(12345), "12,345"), (float("inf"), "n/a"),
    ],
)  # fmt: skip
def test_three_significant_digits(value: Any, shown: str) -> None:
    assert theme.num(value) == shown


def test_signed_and_percent() -> None:
    assert theme.num(0.25, signed=True) == "+0.250"
    assert theme.percent(0.1234) == "12.3 %"
    assert theme.percent(0.0) == "0 %"
    assert theme.percent(1e-5) == "under 0.1 %"
    assert theme.percent(math.nan) == "n/a"


def test_text_is_never_markup() -> None:
    assert theme.as_text("<b>x</b> & y") == "&lt;b&gt;x&lt;/b&gt; &amp; y"
    assert "\n" not in theme.as_text("a\nb\x00")
    assert len(theme.as_text("x" * 500, limit=20)) <= 20
    assert theme.as_text(3.5) == "3.5"


def test_categories_differ_in_some_cue() -> None:
    looks = [tuple(theme.category(index).values()) for index in range(63)]
    assert len(set(looks)) == 63
