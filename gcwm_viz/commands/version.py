"""``version``: what is installed, for a report of a problem."""

import argparse
import platform
import re
from importlib import metadata

from gcwm_viz.commands.options import Commands

PROJECT = "gcwm-viz"


def add(commands: Commands) -> None:
    commands.add_parser("version", help="versions of this package and of what it computes with").set_defaults(
        command=show
    )


def show(options: argparse.Namespace) -> None:
    """One line a distribution: those that the package requires, and those of its extras that are there."""
    del options
    print(f"{PROJECT} {metadata.version(PROJECT)}")
    print(f"python {platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in _requirements():
        try:
            print(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue


def _requirements() -> list[str]:
    """Names in the order of the declaration, each once."""
    lines = metadata.requires(PROJECT) or []
    names = [match[0] for line in lines if (match := re.match(r"[\w.-]+", line))]
    return [name for name in dict.fromkeys(names) if name != PROJECT]
