"""Merge sequences of language-model updates and describe their geometry."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from gcwm_viz.commands import (
    app,
    attribute,
    calibrate,
    check,
    completion,
    dequantise,
    diff,
    example,
    export,
    forecast,
    lab,
    leave_one_out,
    methods,
    push,
    regate,
    report,
    restore,
    run,
    score,
    show,
    sweep,
    tune,
    version,
)
from gcwm_viz.errors import InputError

COMMANDS = (
    app,
    run,
    check,
    score,
    show,
    attribute,
    restore,
    report,
    export,
    push,
    diff,
    dequantise,
    methods,
    tune,
    calibrate,
    sweep,
    leave_one_out,
    forecast,
    regate,
    lab,
    example,
    version,
)
MACHINE_ERROR = 1
USAGE_ERROR = 2
CANCELLED = 3


class _Parser(argparse.ArgumentParser):
    """A parser of one command; each takes plug-ins."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.add_argument(
            "--plugin",
            action="append",
            default=argparse.SUPPRESS,
            metavar="FILE",
            help="Python file or module with merge methods and signals, which is run; repeat for several",
        )


def parser() -> argparse.ArgumentParser:
    """Of every command."""
    whole = argparse.ArgumentParser(prog="gcwm-viz", description=__doc__)
    commands: Any = whole.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for module in COMMANDS:
        module.add(commands)
    completion.add(commands, whole)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 for a failure of the machine (memory, a process, a file that vanishes); 2 for an error in input
    or settings; 3 when cancelled (``resume`` goes on); 130 on Ctrl-C."""
    options = parser().parse_args(arguments)
    from gcwm_viz.continual.folder import WorkCancelledError
    from gcwm_viz.engines.engine import WorkerDiedError
    from gcwm_viz.plugins import loading

    try:
        loading.load_installed()
        for spec in getattr(options, "plugin", []):
            loading.load(spec)
        options.command(options)
    except InputError as error:
        print(f"gcwm_viz: {error}", file=sys.stderr)
        return USAGE_ERROR
    except WorkCancelledError as error:
        print(f"gcwm_viz: {error}", file=sys.stderr)
        return CANCELLED
    except (WorkerDiedError, OSError, MemoryError) as error:  # a failure of the machine, not of the input
        print(f"gcwm_viz: {str(error).splitlines()[0] if str(error) else 'out of memory'}", file=sys.stderr)
        return MACHINE_ERROR
    except KeyboardInterrupt:
        print("gcwm_viz: interrupted; `resume` goes on with the run", file=sys.stderr)
        return 130
    return 0
