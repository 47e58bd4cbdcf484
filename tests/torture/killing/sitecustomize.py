"""Kills the process that it is loaded into with SIGKILL at one chosen access to a file.

GCWM_KILL = EVENT:PART:COUNT:DELAY. EVENT is ``open`` or ``os.rename``; the COUNTth of them whose path contains PART
starts a clock of DELAY seconds. Python loads a module of this name by itself, so what is killed is the real command.
"""

import os
import signal
import sys
import threading

_kind, _part, _count, _delay = os.environ["GCWM_KILL"].split(":")
_main = os.getpid()
_seen = 0


def _kill() -> None:
    os.kill(_main, signal.SIGKILL)  # its workers follow by themselves


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    global _seen
    if event != _kind or _part not in " ".join(str(argument) for argument in arguments[:2]):
        return
    _seen += 1
    if _seen == int(_count):
        if float(_delay):
            threading.Timer(float(_delay), _kill).start()
        else:
            _kill()


sys.addaudithook(_watch)
