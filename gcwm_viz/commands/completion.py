"""``completion``: what a shell needs to complete commands and options."""

import argparse
from functools import partial

from gcwm_viz.commands.options import Commands

SHELLS = ("bash", "zsh", "tcsh")


def add(commands: Commands, whole: argparse.ArgumentParser) -> None:
    """``whole``: the parser of every command, which is complete by the time that this one is called."""
    parser = commands.add_parser(
        "completion", help='print a shell\'s completion of commands and options: eval "$(gcwm-viz completion bash)"'
    )
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(command=partial(show, whole))


def show(whole: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    import shtab

    print(shtab.complete(whole, options.shell))
