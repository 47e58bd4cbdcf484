"""Keeps Streamlit from looking up this machine's public address.

It does so to check a request of a foreign Origin, so any page on the web could make the server send a request of its
own. With an address stored it compares and refuses at once. No option prevents the look-up, so app.py stores one when
the server starts, before the first request. A server with a public address names it in ``server.corsAllowedOrigins``.
"""

from streamlit import net_util


def stay_offline() -> None:
    """Store the loopback address as the public one."""
    net_util._external_ip = "127.0.0.1"
