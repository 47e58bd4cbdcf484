"""Skill tasks of the SmolLM2 example: English word forms, arithmetic word problems, Python expressions.

Each function gives prompt, answer and a key that training and probes must not share: the lemma, the operation with its
numbers, the expression.
"""

from collections.abc import Callable

from gcwm_viz.experiments.draw import LETTERS, Draw
from gcwm_viz.experiments.lexicon import plurals, verb_forms

Keyed = tuple[str, str, str]
"""(key, prompt, answer)"""

MISSPELT = ("bestride",)  # a past tense that lemminflect's table has wrong

NAMES = (
    "Anna",
    "Ben",
    "Clara",
    "David",
    "Emma",
    "Felix",
    "Grace",
    "Henry",
    "Ida",
    "Jack",
    "Kate",
    "Leo",
    "Mia",
    "Noah",
)
THINGS = ("apples", "books", "cards", "coins", "eggs", "flowers", "marbles", "pencils", "shells", "stamps", "stickers")

STORIES: tuple[tuple[str, Callable[[int, int], int], str], ...] = (
    ("+", lambda a, b: a + b, "{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?"),
    ("-", lambda a, b: a - b, "{name} has {a} {things} and gives away {b}. How many {things} are left?"),
    ("*", lambda a, b: a * b, "{name} has {a} boxes with {b} {things} in each. How many {things} are there in all?"),
    ("/", lambda a, b: a // b, "{name} shares {a} {things} equally among {b} friends. How many does each friend get?"),
)


def word_forms(draw: Draw) -> list[Keyed]:
    """Past tenses and plurals: all irregular forms, and a sample of regular ones."""
    verbs = [(lemma, past) for lemma, past, _, _ in verb_forms() if lemma not in MISSPELT]
    irregular = [pair for pair in verbs if not pair[1].endswith("ed")]
    regular = draw.shuffled([pair for pair in verbs if pair[1].endswith("ed")])[:700]
    nouns = plurals()
    odd = [pair for pair in nouns if not pair[1].endswith("s")]
    plain = draw.shuffled([pair for pair in nouns if pair[1].endswith("s")])[:500]
    rows = [(f"verb {v}", f"What is the past tense of the verb '{v}'?", past) for v, past in irregular + regular]
    rows += [(f"noun {n}", f"What is the plural of the noun '{n}'?", plural) for n, plural in odd + plain]
    return rows


def word_problem(draw: Draw) -> Keyed:
    """One step, whole numbers; the key is operation and numbers, so probe and training never differ in names alone."""
    sign, solve, story = draw.choice(STORIES)
    if sign == "+":
        a, b = draw.integer(3, 60), draw.integer(2, 40)
    elif sign == "-":
        a = draw.integer(10, 90)
        b = draw.integer(2, a - 1)
    else:
        a, b = draw.integer(2, 12), draw.integer(2, 12)
        a = a * b if sign == "/" else a
    text = story.format(name=draw.choice(NAMES), things=draw.choice(THINGS), a=a, b=b)
    return f"{a} {sign} {b}", text, str(solve(a, b))


def python_expression(draw: Draw) -> Keyed:
    """An expression of literals and builtins; the answer is the repr of its value."""
    word = draw.text(LETTERS, 3, 6)
    numbers = [draw.integer(0, 20) for _ in range(draw.integer(3, 5))]
    a, b, position = draw.integer(2, 30), draw.integer(2, 9), draw.integer(0, 2)
    prefix = draw.choice((word[:2], f"{word[:1]}z"))
    other = draw.integer(2, 30)
    expression, value = draw.choice(
        (
            (f"len({word!r})", len(word)),
            (f"{word!r}.upper()", word.upper()),
            (f"{word!r}[{position}]", word[position]),
            (f"{word!r}[:{position + 1}]", word[: position + 1]),
            (f"{word!r}.startswith({prefix!r})", word.startswith(prefix)),
            (f"{numbers}[{position}]", numbers[position]),
            (f"max({numbers})", max(numbers)),
            (f"min({numbers})", min(numbers)),
            (f"sorted({numbers})[0]", sorted(numbers)[0]),
            (f"len({numbers})", len(numbers)),
            (f"{a} % {b}", a % b),
            (f"{a} > {other}", a > other),
            (f"{a} + {b} * 2", a + b * 2),
        )
    )
    return expression, f"What does the Python expression {expression} evaluate to?", repr(value)
