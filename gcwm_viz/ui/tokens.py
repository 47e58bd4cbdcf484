"""Tokens as HTML for ``st.html``, each shaded by its probability. Their text is literal, its white space visible."""

import html
import math
from collections.abc import Iterable

from gcwm_viz.probes.generation import END, Token

_SHADE = "213, 94, 0"
"""Okabe–Ito vermilion: with the opacity below, the text of either theme stays readable on it."""
_OPACITY = 0.6
_FAINT = '<span style="opacity: 0.5">{}</span>'
_MARK = f'<span style="opacity: 0.5; font-size: 0.6em; vertical-align: 0.2em"> {END}</span>'
_BLANK = {
    " ": '<span style="opacity: 0.3">·</span><wbr>',
    "\n": f"{_FAINT.format('↵')}<br>",
    "\t": f"{_FAINT.format('→')}<wbr>",
}


def shaded(tokens: Iterable[Token]) -> str:
    """HTML of an answer. A certain token has no shade, the least likely one the strongest; the probability (in %) and
    the loss (in nats) show on hover. A token without a probability is underlined with dots."""
    return "".join(
        _span(_literal(token.text, closes=token.closes), token.probability, _hint(token)) for token in tokens
    )


def legend() -> str:
    """HTML of one line that explains the shade."""
    samples = (_span(f"&nbsp;{name}&nbsp;", share, "") for name, share in (("100 %", 1.0), ("50 %", 0.5), ("0 %", 0.0)))
    line = f"Shade = probability of the token: {' '.join(samples)}. Hover for the number; {END} ends the answer."
    return f'<div style="font-size: 0.85rem; opacity: 0.8">{line}</div>'


def _span(content: str, probability: float, hint: str) -> str:
    if math.isnan(probability):
        look = "text-decoration: underline dotted"
    else:
        look = f"background-color: rgba({_SHADE}, {_OPACITY * (1 - probability):.2f})"
    title = f' title="{hint}"' if hint else ""
    return f'<span style="border-radius: 0.15em; {look}"{title}>{content}</span>'


def _hint(token: Token) -> str:
    if math.isnan(token.probability):
        return "probability not available: the logits are not finite"
    what = "the answer ends here: " if token.closes else ""
    return f"{what}probability {100 * token.probability:.3g} %, −log p = {token.loss:.3g} nats"


def _literal(text: str, *, closes: bool) -> str:
    if closes:
        return _literal(text.removesuffix(END), closes=False) * (text != END) + _MARK
    if not text:
        return _FAINT.format("‥")  # the first bytes of a character
    return "".join(map(_character, text))


def _character(character: str) -> str:
    if character in _BLANK:
        return _BLANK[character]
    # Nothing invisible, and nothing that turns the direction of the text around.
    shown = character if character.isprintable() else character.encode("unicode_escape").decode()
    return html.escape(shown)
