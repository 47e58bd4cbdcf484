"""Writes down every address outside this machine that the process looks up or connects to, in the file $GCWM_WATCH."""

import ipaddress
import os
import socket
import sys
from typing import Any

_LOCAL = {"", "localhost", "None"}


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo":
        host = str(arguments[0])
    elif event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[0].type & socket.SOCK_STREAM:
        # (connecting a datagram socket sends nothing; it is how a program learns its own address)
        host = str(arguments[1][0])
    else:
        return
    try:
        local = ipaddress.ip_address(host).is_loopback or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        local = host in _LOCAL
    if not local:
        with open(os.environ["GCWM_WATCH"], "a") as file:
            file.write(f"{event} {host}\n")


sys.addaudithook(_watch)
