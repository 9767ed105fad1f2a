"""The viewer's server, or one sentence about why there is none."""

import contextlib
import errno
import importlib
import io
import socket
from typing import Any

from tttlrm_jax.config.viewer import LOOPBACK, ViewerOptions
from tttlrm_jax.core.errors import InputError

EXTRA = 'pip install "tttlrm-jax[viewer]"'


def start_server(options: ViewerOptions, title: str) -> Any:
    """A running `viser.ViserServer`. Raises InputError where viser is absent, and for a port or an
    address that it cannot listen at."""
    try:
        viser = importlib.import_module("viser")
    except ImportError as error:
        raise InputError(f"the viewer needs viser ({error}); {EXTRA}") from None
    check_address(options.host, options.port)
    with contextlib.redirect_stdout(io.StringIO()):  # its banner
        server = viser.ViserServer(host=options.host, port=options.port, label=title, verbose=False)
    if options.port not in (0, server.get_port()):  # taken in the meantime: it looks further itself
        server.stop()
        raise in_use(options.port)
    server.gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
    return server


def check_address(host: str, port: int) -> None:
    """Raises InputError for one that nothing can listen at now."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise in_use(port) from None
        if error.errno == errno.EACCES:
            raise InputError.of(
                "port", port, "is not for everyone", "give --port 1024 or more"
            ) from None
        raise InputError.of(
            "host", host, f"is no address of this machine ({error.strerror})",
            f"give --host {LOOPBACK}",
        ) from None  # fmt: skip


def in_use(port: int) -> InputError:
    return InputError.of("port", port, "is in use", "give another --port, or 0 for a free one")


def address_of(server: Any) -> str:
    """What to open in a browser."""
    host = server.get_host()
    shown = LOOPBACK if host in ("0.0.0.0", "::", "") else host
    shown = f"[{shown}]" if ":" in shown else shown
    return f"http://{shown}:{server.get_port()}"
