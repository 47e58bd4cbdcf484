"""``methods``: the merge methods by name, with the settings of each."""

import argparse

from gcwm_viz.commands.options import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser("methods", help="list the merge methods and their own settings")
    parser.add_argument("--settings", action="store_true", help="tables of all settings instead, as Markdown")
    parser.set_defaults(command=methods)


def methods(options: argparse.Namespace) -> None:
    from gcwm_viz.commands.settings import listed, markdown
    from gcwm_viz.merging.registry import METHODS

    if options.settings:
        print(markdown())
        return
    for method in METHODS.values():
        print(f"{method.name:20} {method.summary} ({method.source})")
        if own := listed(method.settings.declared(), 4):
            print(own)
