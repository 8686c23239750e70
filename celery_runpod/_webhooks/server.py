"""The server of `celery-runpod webhooks`: waitress, made to stand slow and hostile clients (docs/decisions/0012).

One thread reads all sockets, and only whole requests reach a thread of the application. A request that is not signed is
refused at the end of its headers, so nobody without a URL of ours can fill memory or disk with bodies. Neither a silent
client nor one that sends a byte now and then keeps its connection. Nothing is logged of a request: its URL is a
capability.

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

from celery_runpod._webhooks.receive import MOST_BYTES, is_signed

MOST_CONNECTIONS = 4_000
SILENT_S = 20
"""A connection on which nothing arrives for so long is closed."""
REQUEST_S = 60.0
"""A request that is not whole after so long is given up, however busily it is sent."""
MOST_HEADER_BYTES = 16_384
IN_MEMORY_BYTES = 65_536
"""A larger body waits in a temporary file."""
SPARE_FILES = 100
"""Open files that are no connections: Redis, the broker, modules."""


class _Unsigned(BadRequest):
    code = 403
    reason = "Forbidden"


class _Parser(HTTPRequestParser):
    """A request; one with a body must be signed."""

    error: Any

    def __init__(self, adj: Any) -> None:
        super().__init__(adj)
        self.begun_at = time.time()  # noqa: TID251 - the edge
        self._judged = False

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        if self.headers_finished and not self._judged:
            self._judged = True
            # `error`: refused already, for its size or its form.
            if self.error is None and self.body_rcv is not None and not is_signed(dict(parse_qsl(self.query))):
                self.error = _Unsigned("the signature does not match, or has expired")
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
        """Close silent connections, and those whose request does not come to its end."""
        super().maintenance(now)
        for channel in self.active_channels.values():
            if channel.request is not None and channel.request.begun_at < now - REQUEST_S:
                channel.will_close = True


def _most_connections() -> int:
    """As many as the process may have open, with a temporary file each."""
    wanted = 2 * MOST_CONNECTIONS + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, (soft - SPARE_FILES) // 2)
