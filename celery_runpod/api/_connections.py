"""Connections that keep a call's deadline and record whether its request was sent; urllib3 does neither.

What urllib3 lacks, and what is done here:

- Its timeouts hold for each address and each read, so an answer that arrives byte by byte never ends. Here each wait on
  the socket lasts at most as long as the call has left, and nothing is sent after its deadline. The lookup of a host
  name is not bounded; nothing has been sent by then.
- Its exceptions do not say whether the request was sent: a TLS error, or a reset, may come from the handshake or from
  the answer. `Call.sent` is set just before the first byte of the request is sent.
- It reuses connections that were idle for long, which RunPod may be closing. A POST /run on such a connection may fail
  after it was sent, and what may have been received is not sent again. So a connection that was idle for `IDLE_S` is
  closed: a new TLS handshake costs less than an unknown submit.

Not here: what a failure means (``_transport.py``).
"""

from __future__ import annotations

import http.client
import io
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from requests import PreparedRequest, RequestException, Response, Session
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError

FAILURES = (RequestException, HTTPError, OSError, ValueError)
"""What an exchange on these connections raises."""
IDLE_S = 4.0
PIECE_BYTES = 16_384
"""One TLS record. OpenSSL's timeout holds for each record, so a request is sent in pieces of this size."""


class AddressRefused(OSError):
    """`Call.refused` does not allow any address of the host."""


def causes(error: BaseException | None, depth: int = 0) -> Iterator[BaseException]:
    """An error and those that it wraps: requests and urllib3 keep them in `args`, `reason` and `__cause__`."""
    while error is not None and depth < 10:
        yield error
        inner = [getattr(error, "reason", None), *reversed(error.args), error.__cause__]
        error = next((one for one in inner if isinstance(one, BaseException)), None)
        depth += 1


@dataclass
class Call:
    """One call in one thread: `deadline` on `clock`, and whether its request may have `sent` anything to RunPod.
    `refused` says why no connection may be made to an address, or None; every address may be used without it."""

    deadline: float
    connect_timeout_s: float
    read_timeout_s: float
    clock: Callable[[], float]
    sent: bool = False
    refused: Callable[[str], str | None] | None = None

    def left_s(self, at_most_s: float | None = None) -> float:
        """Seconds for the next wait.

        Raises:
            TimeoutError: nothing is left.
        """
        left = self.deadline - self.clock()
        if left <= 0:
            raise TimeoutError("the time for the whole call is over")
        return left if at_most_s is None else min(left, at_most_s)


_thread = threading.local()


@contextmanager
def calling(call: Call) -> Iterator[Call]:
    """Within this context, connections of this thread work for `call`; afterwards for the call before, because a stream
    may be closed while another call is at work."""
    before = getattr(_thread, "call", None)
    _thread.call = call
    try:
        yield call
    finally:
        _thread.call = before


def _call() -> Call:
    call: Call = _thread.call
    return call


class _TimedReads(io.RawIOBase):
    """The reading side of a socket; each read waits at most as long as the call has left."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        call = _call()
        self._sock.settimeout(call.left_s(call.read_timeout_s))
        read: int | None = self._raw.readinto(buffer)
        self.ended = read == 0
        return read

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """Status line, headers and body through timed reads."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._reads = _TimedReads(self.fp.detach(), sock)
        self.fp = io.BufferedReader(self._reads)

    def begin(self) -> None:
        super().begin()
        if self._reads.ended:
            # http.client accepts the end of the connection as the end of the headers. A 404 that breaks off there would
            # count as "RunPod does not know the job".
            raise http.client.RemoteDisconnected("the answer broke off in its headers")
        # urllib3 logs headers that it cannot parse; a proxy may have put the API key into them.
        self.msg.defects.clear()
        self.msg.set_payload("")


class _Timed(HTTPConnection):
    response_class = _Answer
    _opening = False
    _used_at = 0.0

    @property
    def is_connected(self) -> bool:
        # urllib3 reads this before it reuses a connection, and closes the connection if it is False.
        return super().is_connected and _call().clock() - self._used_at < IDLE_S

    def connect(self) -> None:
        # Nothing was sent on this new connection, also if the call tried a pooled one before.
        _call().sent = False
        self._opening = True
        try:
            super().connect()
        finally:
            self._opening = False

    def _new_conn(self) -> socket.socket:
        """As in urllib3, but no address is tried for longer than the call has left."""
        call, trouble = _call(), OSError("the name has no address")
        host = self.host.strip("[]")
        try:
            found = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise NameResolutionError(host, self, error) from error
        except UnicodeError as error:
            raise NewConnectionError(self, f"{host!r} is not a host name") from error
        for family, kind, protocol, _, address in found:
            if call.refused is not None and (problem := call.refused(str(address[0]))):
                trouble = AddressRefused(problem)
                continue
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(call.left_s(call.connect_timeout_s))
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                sock.connect(address)
            except OSError as error:
                sock.close()
                trouble = error
            else:
                return sock
        if isinstance(trouble, TimeoutError):
            raise ConnectTimeoutError(self, str(trouble)) from trouble
        raise NewConnectionError(self, str(trouble)) from trouble

    def request(self, *args: Any, **kwargs: Any) -> None:
        # On a pooled connection `connect` is not called.
        _call().sent = False
        super().request(*args, **kwargs)

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        if self._opening or not isinstance(data, bytes):
            # The CONNECT request to a proxy. (RunPodClient sends bytes alone.)
            super().send(data)
            return
        call, rest = _call(), memoryview(data)
        while rest:
            self.sock.settimeout(call.left_s())
            call.sent = True
            super().send(rest[:PIECE_BYTES])
            rest = rest[PIECE_BYTES:]

    def getresponse(self) -> Any:
        answer = super().getresponse()
        self._used_at = _call().clock()
        return answer


class _TimedTLS(_Timed, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Timed


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TimedTLS


_POOLS = {"http": _Pool, "https": _TLSPool}


class TimedSession(Session):
    """A session of `requests` on these connections, with this adapter for every host."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        for scheme in ("https://", "http://"):
            self.mount(scheme, Adapter(max_retries=0, **options))

    def get_redirect_target(self, resp: Response) -> None:
        """None: `requests` would otherwise prepare the next request even if it must not follow the redirect."""


class Adapter(HTTPAdapter):
    """requests' own adapter, on these connections."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = _POOLS
        return manager

    def add_headers(self, request: PreparedRequest, **kwargs: Any) -> None:
        # The last step before urllib3 takes over. A SOCKS connection is urllib3's own and does not set `sent`.
        _call().sent = True
