"""The server of `celery-runpod webhooks`: waitress, hardened against slow and hostile clients (docs/decisions/0012).

One thread reads all sockets, and only complete requests reach a thread of the application. An unsigned request is refused
at the end of its headers, so that nobody without a signed URL can fill memory or disk with bodies. A client that is
silent, or sends a byte now and then, loses its connection. Requests are not logged, because the URL is a secret.

Not here: the application (``flask.py``) and what it does with a webhook (``receive.py``).
"""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer
from waitress.utilities import BadRequest

from celery_runpod._webhooks.receive import MOST_BYTES, NOT_SIGNED, is_signed

MOST_CONNECTIONS = 4_000
SILENT_S = 20
"""After this time without a byte a connection is closed."""
REQUEST_S = 60.0
"""After this time an incomplete request is closed, even while bytes arrive."""
MOST_HEADER_BYTES = 16_384
IN_MEMORY_BYTES = 65_536
"""A larger body is kept in a temporary file."""
SPARE_FILES = 100
"""Open files besides these connections: Redis, the broker, modules."""


class _Unsigned(BadRequest):
    code = 403
    reason = "Forbidden"


class _Parser(HTTPRequestParser):
    """Parses a request; one with a body must be signed."""

    error: Any

    def __init__(self, adj: Any) -> None:
        super().__init__(adj)
        self.begun_at = time.time()  # noqa: TID251 - the edge
        self._judged = False

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        if self.headers_finished and not self._judged:
            self._judged = True
            # With an `error`, waitress has refused it already.
            if self.error is None and self.body_rcv is not None and not is_signed(dict(parse_qsl(self.query))):
                self.error = _Unsigned(NOT_SIGNED)
                self.completed, self.expect_continue = True, False
        return consumed


class _Channel(HTTPChannel):
    parser_class = _Parser


class Receiver(TcpWSGIServer):
    """The server, listening; `run` serves until SIGTERM or SIGINT."""

    channel_class = _Channel

    def __init__(self, app: Callable[..., Any], host: str, port: int, threads: int) -> None:
        settings = Adjustments(
            host=host,
            port=port,
            threads=threads,
            connection_limit=_most_connections(),
            backlog=2_048,
            asyncore_use_poll=True,  # select() ends at 1,024 sockets
            channel_timeout=SILENT_S,
            cleanup_interval=5,
            max_request_header_size=MOST_HEADER_BYTES,
            max_request_body_size=MOST_BYTES + 1,
            inbuf_overflow=IN_MEMORY_BYTES,
            log_socket_errors=False,
            ident=None,
        )
        super().__init__(app, adj=settings)

    def run(self) -> None:
        def end(*_: Any) -> None:
            raise SystemExit

        signal.signal(signal.SIGTERM, end)
        super().run()

    def maintenance(self, now: float) -> None:
        """Close silent connections, and those with a request that takes too long."""
        super().maintenance(now)
        for channel in self.active_channels.values():
            if channel.request is not None and channel.request.begun_at < now - REQUEST_S:
                channel.will_close = True


def _most_connections() -> int:
    """The number of connections for which the process may open files, with a temporary file for each."""
    wanted = 2 * MOST_CONNECTIONS + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, (soft - SPARE_FILES) // 2)
