"""``methods``: the merge methods by name."""

import argparse


def add(jobs) -> None:  # type: ignore[no-untyped-def]
    jobs.add_parser("methods", help="list the merge methods").set_defaults(job=methods)


def methods(options: argparse.Namespace) -> None:
    from gcwm_viz.merging.registry import METHODS

    del options
    for method in METHODS.values():
        print(f"{method.name:20} {method.summary} ({method.source})")
