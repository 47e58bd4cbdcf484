"""Options of the app, and the folders that it may use: run root, current folder, Hugging Face cache and our own.

More are named at the start: ``streamlit run app.py -- --allow DIR --allow URL``. Every path from a link or a text field
passes :func:`within` before a file system is asked about it.
"""

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from gcwm_viz.checkpoints.hub import splits
from gcwm_viz.checkpoints.location import cache_folder, location
from gcwm_viz.errors import InputError

DEFAULT_ROOT = "runs"
DEFAULT_RUN = "lab"


def run_root() -> Path:
    """The folder of runs: ``streamlit run app.py -- --run-root DIR``, by default ``runs`` in the current folder."""
    return Path(_options().run_root).resolve()


def allowed_roots() -> list[Path]:
    """Resolved, each once, the run root first."""
    options = _options()
    named = [Path(text) for text in options.allow if "://" not in text]
    roots = [run_root(), Path.cwd(), _hub_cache(), cache_folder(), *named]
    return list(dict.fromkeys(root.expanduser().resolve() for root in roots))


def plugins() -> tuple[str, ...]:
    """Plug-ins named at the start, as the command line takes them."""
    return tuple(_options().plugin)


def within(path: str | Path, roots: Iterable[Path] | None = None) -> Path:
    """``path`` resolved, symlinks followed; a URL unchanged. Raises :class:`InputError` when that lies outside every
    root, or is a URL that was not named at the start: nothing is fetched because a visitor asks for it."""
    text = str(path)
    if "://" in text:
        return location(allowed_url(text))
    if not text.isprintable() or len(text) > 4096:
        raise InputError(f"the path {text[:80]!r} has characters that cannot be printed, or is too long")
    allowed = allowed_roots() if roots is None else list(roots)
    whole = _inside(text, allowed)
    pairs = [] if whole is not None and _exists(whole) else list(splits(text))
    # A pair is read at the first split of which both parts exist, so both must lie inside.
    for first, sign, second in pairs:
        inside = [_inside(part, allowed) for part in (first, second)]
        if all(part is not None and _exists(part) for part in inside):
            return Path(f"{inside[0]}{sign}{inside[1]}")
    if pairs:
        whole = None
    if whole is None:
        raise InputError(
            f"{text}: lies outside the folders that this app may use, or is not there; start it with `-- --allow DIR` "
            "to add one"
        )
    return whole


def _inside(text: str, roots: list[Path]) -> Path | None:
    """The path resolved, or None where it lies outside every root; nothing more may be asked about such a path."""
    try:
        resolved = Path(text).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, an unknown ~user
        raise InputError(f"{text[:200]}: not a usable path ({str(error)[:100]})") from None
    return resolved if any(resolved.is_relative_to(root) for root in roots) else None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def allowed_url(text: str) -> str:
    """``text`` if it is, or lies below, a URL named at the start. Raises :class:`InputError` for every other one."""
    steps = unquote(text).replace("\\", "/").split("/")
    plain = text.isprintable() and "::" not in text and not {".", ".."} & set(steps)  # ::, fsspec's chains of URLs
    prefixes = [prefix.rstrip("/") for prefix in _options().allow if "://" in prefix]
    if plain and any(text == prefix or text.startswith(f"{prefix}/") for prefix in prefixes):
        return text
    raise InputError(
        f"{text[:200]!r} is a URL, and this app reads only those named when it was started; `-- --allow URL` names one"
    )


def run_names(root: Path) -> list[str]:
    """Names of the run folders directly below ``root``, the default lab run first, then by name."""
    try:
        children = list(root.iterdir()) if root.is_dir() else []
    except OSError as error:
        raise InputError(f"{root}: cannot list the runs ({error.strerror or error})") from None
    names = sorted(child.name for child in children if child.name.isprintable() and os.path.isfile(child / "run.json"))
    return sorted(names, key=lambda name: name != DEFAULT_RUN)


def run_folder(name: str) -> Path:
    """The run ``name`` directly below the run root. Raises :class:`InputError` for anything that is not one."""
    root = run_root()
    if not name or name in {".", ".."} or Path(name).name != name or not name.isprintable():
        raise InputError(f"the run name {name[:80]!r} is not the name of a folder")
    return within(root / name)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--run-root", default=DEFAULT_ROOT)
    parser.add_argument("--allow", action="append", default=[])
    parser.add_argument("--plugin", action="append", default=[])
    return parser.parse_known_args(sys.argv[1:])[0]


def _hub_cache() -> Path:
    home = os.environ.get("HF_HOME", "~/.cache/huggingface")
    return Path(os.environ.get("HF_HUB_CACHE", os.path.join(home, "hub")))
