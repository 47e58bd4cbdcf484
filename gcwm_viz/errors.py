"""The error that the user can mend, and how others' errors become one."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_LENGTH = 2000


class InputError(ValueError):
    """Input or settings that cannot be used.

    The message is one sentence that names the file and tensor (or the setting), what was expected and what was
    found. The command line prints it and exits with code 2; the app shows it as text. Whatever a file made it quote,
    it stays one line of bounded length.
    """

    def __init__(self, message: object = "") -> None:
        text = str(message).replace("\n", " ").replace("\r", " ")
        super().__init__(text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH // 2]} … {text[-MAX_LENGTH // 2 :]}")


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none, to quote in a sentence."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


@contextmanager
def named_write_errors(path: Path) -> Iterator[None]:
    """Where the system refuses to write inside the block: InputError with ``path`` and the reason."""
    try:
        yield
    except OSError as error:
        reason = "no space left on the disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or error
        raise InputError(f"{path}: cannot write ({reason})") from error
