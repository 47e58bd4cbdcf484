"""Where inputs lie: folders of this machine, or of any file system that fsspec has a driver for (``s3://…``).

There, headers are read like any file, and weights as the byte ranges that the headers name. Results are written to
folders of this machine alone, because they rely on renames and locks.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from gcwm_viz.errors import InputError, first_line


def location(where: str | Path) -> Path:
    """``where`` as a path to read from; a URL (``protocol://…``) becomes a path of its file system.

    Nothing is accessed yet, see :func:`reached`. Raises :class:`InputError` for a protocol without a driver.
    """
    if not isinstance(where, str) or "://" not in where:
        return Path(where) if isinstance(where, str) else where
    with _named_access_errors(where):
        from upath import UPath

        return cast(Path, UPath(where))  # the same methods, though not of the same class


def reached(path: Path) -> Path:
    """``path`` itself, once a remote file system has answered.

    Raises :class:`InputError` for a driver that is not installed or gets no access, which shows at the first call only.
    """
    if is_remote(path):
        with _named_access_errors(path):
            path.exists()
    return path


@contextmanager
def _named_access_errors(where: object) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise InputError(f"{where}: {error}; the extra `remote` and the protocol's own driver read it") from None
    except Exception as error:  # a driver can raise anything
        raise InputError(f"{where}: cannot be reached ({first_line(error)})") from None


def is_remote(path: Path) -> bool:
    """Whether ``path`` lies on another file system, where only whole files and byte ranges can be read."""
    return not isinstance(path, Path)


def remote_bytes(path: Path, start: int, count: int) -> bytes:
    """``count`` bytes of a remote file from byte ``start``. Raises OSError, or InputError for a driver's own errors."""
    try:
        content: bytes = path.fs.cat_file(path.path, start=start, end=start + count)  # type: ignore[attr-defined]
        return content
    except OSError:
        raise
    except Exception as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from None


def local_only(path: Path, what: str) -> None:
    """Raises :class:`InputError` for a remote ``path``, which ``what`` cannot work with."""
    if is_remote(path):
        raise InputError(f"{path}: {what} needs it in a folder of this machine; copy or mount it first")


def cache_folder() -> Path:
    """The user's cache for this project: $XDG_CACHE_HOME/gcwm_viz, by default ~/.cache/gcwm_viz."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gcwm_viz"
