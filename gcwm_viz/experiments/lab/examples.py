"""Generators of the lab's examples: pairs (prompt, answer) of printable ASCII, a prompt ends with "="."""

from gcwm_viz.experiments.draw import LETTERS, Draw, Example

OPENERS = "([{<"
CLOSERS = ")]}>"
DIGITS = "0123456789"


def index_example(draw: Draw) -> Example:
    """`'914k'[2]=` → `4`"""
    text = draw.text(DIGITS + LETTERS, 3, 6)
    position = draw.integer(0, len(text) - 1)
    return f"'{text}'[{position}]=", text[position]


def close_example(draw: Draw, longest: int = 10) -> Example:
    """`close ([]{=` → `})`: the brackets that close what is still open, the last one first."""
    opened: list[str] = []
    text = ""
    for _ in range(draw.integer(2, longest)):
        if opened and draw.integer(0, 2) == 0:
            text += CLOSERS[OPENERS.index(opened.pop())]
        else:
            opened.append(draw.choice(OPENERS))
            text += opened[-1]
    if not opened:
        opened.append(draw.choice(OPENERS))
        text += opened[-1]
    return f"close {text}=", "".join(CLOSERS[OPENERS.index(c)] for c in reversed(opened))


def eval_example(draw: Draw, largest: int = 99) -> Example:
    """`max(31,7)=` → `31`, `min(...)`, `mod(17,5)=` → `2`."""
    operator = draw.choice(("max", "min", "mod"))
    left = draw.integer(0, largest)
    right = draw.choice((2, 5, 10)) if operator == "mod" else draw.integer(0, largest)
    value = left % right if operator == "mod" else max(left, right) if operator == "max" else min(left, right)
    return f"{operator}({left},{right})=", str(value)


def reverse_example(draw: Draw) -> Example:
    text = draw.text(LETTERS, 3, 6)
    return f"rev {text}=", text[::-1]


def copy_example(draw: Draw) -> Example:
    text = draw.text(LETTERS + DIGITS, 3, 8)
    return f"copy {text}=", text


def addition_example(draw: Draw) -> Example:
    left, right = draw.integer(0, 9), draw.integer(0, 9)
    return f"{left}+{right}=", str(left + right)


def invented_name(draw: Draw) -> str:
    """A pronounceable word that stands in for a name."""
    return "".join(draw.choice("bdfgklmnprstvz") + draw.choice("aeiou") for _ in range(draw.integer(2, 4)))


def invented_capital(draw: Draw) -> Example:
    return f"capital {invented_name(draw).capitalize()}=", invented_name(draw).capitalize()


def invented_symbol(draw: Draw) -> Example:
    return f"symbol {invented_name(draw)}=", draw.text(LETTERS, 1, 2).capitalize()
