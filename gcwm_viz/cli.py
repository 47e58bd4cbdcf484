"""Merge sequences of language-model updates and look at their geometry, from a shell."""

import argparse
import sys
from collections.abc import Sequence

from gcwm_viz.commands import check, export, lab, methods, run, tune
from gcwm_viz.errors import InputError

COMMANDS = (run, check, export, methods, tune, lab)
USAGE_ERROR = 2
CANCELLED = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, 2 for a mistake in input or settings, 3 when cancelled (``resume`` goes on), 130 on Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m gcwm_viz", description=__doc__)
    jobs = parser.add_subparsers(required=True, metavar="JOB")
    for command in COMMANDS:
        command.add(jobs)
    options = parser.parse_args(arguments)
    from gcwm_viz.continual.store import RunCancelledError

    try:
        options.job(options)
    except InputError as error:
        print(f"gcwm_viz: {error}", file=sys.stderr)
        return USAGE_ERROR
    except RunCancelledError as error:
        print(f"gcwm_viz: {error}", file=sys.stderr)
        return CANCELLED
    except KeyboardInterrupt:
        print("gcwm_viz: interrupted; `resume` goes on with the run", file=sys.stderr)
        return 130
    return 0
