"""Where inputs lie: folders of this machine, or of any file system that fsspec has a driver for (``s3://…``).

Elsewhere headers are read like any file, and weights as the byte ranges that the headers name. Results are written to
folders of this machine alone, because they rely on renames and locks.
"""

from pathlib import Path
from typing import cast

from gcwm_viz.errors import InputError


def location(where: str | Path) -> Path:
    """``where`` as a path to read from; a URL (``protocol://…``) becomes a path of its file system.

    Raises :class:`InputError` for a protocol without a driver here.
    """
    if not isinstance(where, str):
        return where
    if "://" not in where:
        return Path(where)
    try:
        from upath import UPath

        found = UPath(where)
        found.exists()  # a driver that is not installed, or gets no access, says so here
    except ImportError as error:
        raise InputError(f"{where}: {error}; the extra `remote` and the protocol's own driver read it") from None
    except Exception as error:  # what a driver can raise has no end
        raise InputError(f"{where}: cannot be reached ({_first_line(error)})") from None
    return cast(Path, found)  # the same methods, though not of the same class


def is_remote(path: Path) -> bool:
    """Whether ``path`` lies on another file system, where only whole files and byte ranges can be read."""
    return not isinstance(path, Path)


def remote_bytes(path: Path, start: int, count: int) -> bytes:
    """``count`` bytes of a remote file from byte ``start``. Raises OSError, or InputError for a driver's own errors."""
    try:
        return path.fs.cat_file(path.path, start=start, end=start + count)  # type: ignore[attr-defined]
    except OSError:
        raise
    except Exception as error:
        raise InputError(f"{path}: cannot be read ({_first_line(error)})") from None


def local_only(path: Path, what: str) -> None:
    """Raises :class:`InputError` for a remote ``path``, which ``what`` cannot work with."""
    if is_remote(path):
        raise InputError(f"{path}: {what} needs it in a folder of this machine; copy or mount it first")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
