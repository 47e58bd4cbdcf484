"""Keeps Streamlit from asking the outside for this machine's public address.

It does so when it checks a request of a foreign Origin, so any page on the web could make the server send one. With an
answer in its place it compares and refuses at once. No option does that, so app.py calls it when the server starts,
before anybody can ask. A server reached by a public address names that in ``server.corsAllowedOrigins``.
"""

from __future__ import annotations

from streamlit import net_util


def stay_offline() -> None:
    """Put the loopback address in the place of the one that would be looked up."""
    net_util._external_ip = "127.0.0.1"
