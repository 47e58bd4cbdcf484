"""Seeded damage to a file: bytes flipped, cut, spliced, and JSON values replaced by what nobody expects there."""

import json
import random
from collections.abc import Iterator
from typing import Any

PIECES = (b"{", b"}", b"[", b"]", b'"', b",", b":", b"null", b"-1", b"1e999", b"NaN", b"\xff", b"\x00", b"9" * 30)
HOSTILE: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 2**31, 2**63, 2**70, 1e308, -1e-308, 0.5),
    *("", "x" * 5000, "../../etc/passwd", "/", "/dev/zero", "\u0000", "\ud800", "\u2028", "=1+1", "<script>", "nan"),
    *([], {}, [[]], [1, 2, 3], [None], {"": {}}, {"a": [{}]}, [2**40, 2**40], ["a"] * 300),
)


def mutate(content: bytes, generator: random.Random) -> bytes:
    """One file with one to three faults; JSON and JSON lines are damaged in their values half of the time."""
    if generator.random() < 0.5:
        damaged = _json(content, generator)
        if damaged is not None:
            return damaged
    return _bytes(content, generator)


def _bytes(content: bytes, generator: random.Random) -> bytes:
    mutated = bytearray(content)
    for _ in range(generator.randint(1, 3)):
        place = generator.randrange(len(mutated) + 1)
        kind = generator.randrange(5)
        if kind == 0 and mutated:
            mutated[place % len(mutated)] ^= 1 << generator.randrange(8)
        elif kind == 1:
            del mutated[place:]
        elif kind == 2:
            mutated[place : place + generator.randint(0, 8)] = generator.choice(PIECES)
        elif kind == 3:
            mutated[place:place] = mutated[: generator.randint(0, 200)]
        else:
            mutated[place:place] = generator.choice((b"[", b'{"a":')) * generator.choice((3, 2000, 60_000))
    return bytes(mutated)


def _json(content: bytes, generator: random.Random) -> bytes | None:
    lines = content.split(b"\n")
    at = generator.randrange(len(lines)) if len(lines) > 1 and content[:1] == b"{" and lines[0][-1:] == b"}" else None
    try:
        value = json.loads(content if at is None else lines[at])
    except ValueError:
        return None
    places = list(_places(value))
    if not places:
        return None
    for _ in range(generator.randint(1, 2)):
        holder, key = generator.choice(places)
        kind = generator.randrange(4)
        if kind == 0 and isinstance(holder, dict):
            holder.pop(key, None)
        elif kind == 1 and isinstance(holder, dict):
            holder[str(generator.choice(HOSTILE))] = holder.get(key)
        else:
            holder[key] = generator.choice(HOSTILE)
    raw = json.dumps(value).encode()
    if at is None:
        return raw
    return b"\n".join([*lines[:at], raw, *lines[at + 1 :]])


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)
