"""What the server does when it starts, before the first page.

It keeps Streamlit from looking up this machine's public address. Streamlit does so to check a request of a foreign
Origin, so any page on the web could make the server send a request of its own. With an address stored it compares and
refuses at once. No option prevents the look-up, so an address is stored before the first request. A server with a
public address names it in ``server.corsAllowedOrigins``.

And it imports what every page about a run needs, in the background, while the reader's browser opens.
"""

from importlib import import_module
from threading import Thread

from streamlit import net_util


def prepare() -> None:
    """Store the loopback address as the public one, and begin to import."""
    net_util._external_ip = "127.0.0.1"
    Thread(target=import_module, args=("gcwm_viz.ui.overview",), daemon=True).start()
