"""``methods``: the merge methods by name, with the settings of each."""

import argparse

from gcwm_viz.commands.options import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser("methods", help="list the merge methods and their own settings")
    tables = parser.add_mutually_exclusive_group()
    tables.add_argument("--settings", action="store_true", help="tables of all settings instead, as Markdown")
    tables.add_argument("--signals", action="store_true", help="tables of all signals instead, as Markdown")
    parser.set_defaults(command=methods)


def methods(options: argparse.Namespace) -> None:
    from gcwm_viz.commands import settings, signals
    from gcwm_viz.merging.registry import METHODS

    if options.settings or options.signals:
        print((settings if options.settings else signals).markdown())
        return
    for method in METHODS.values():
        print(f"{method.name:20} {method.summary} ({method.source})")
        if own := settings.listed(method.settings.declared(), 4):
            print(own)
