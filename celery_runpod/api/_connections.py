"""Connections that keep a call's deadline, and know whether its request has left: what urllib3 cannot tell.

Three things are lacking in urllib3, and each would cost money or a worker's time here:

- Its timeouts are for each address and each read, so an answer (or its headers) that trickles never ends. Here every
  wait on the socket is cut to what is left of the call, and nothing is sent once nothing is left. Only the lookup of
  a name is not: that is the resolver's own time, and nothing has been sent then.
- Its exceptions do not tell whether the request was sent: a TLS error may come from the handshake or from the answer,
  a reset from either. `Call.sent` is set just before the first byte of the request goes out.
- It reuses a connection that has been idle for long. The other end may be closing that one just now: a certain failure
  (cannot connect) would become an unknown one (sent, and then cut), and an unknown POST /run is not sent again. So
  one that has been idle for `IDLE_S` is not used again, by any operation: a new TLS handshake is cheap against that.

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

from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

IDLE_S = 4.0
PIECE_BYTES = 16_384
"""One TLS record: OpenSSL's time limit is for each, so a request is sent and timed in such pieces."""


@dataclass
class Call:
    """One call in one thread: `deadline` on `clock`, and whether its request may have `sent` anything to RunPod."""

    deadline: float
    connect_timeout_s: float
    read_timeout_s: float
    clock: Callable[[], float]
    sent: bool = False

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
    """What this thread does with connections is done for this call; afterwards for the one before, if there was one:
    a stream that is thrown away may be closed while another call is at work."""
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
    """The reading side of a socket; each read waits for no longer than the call has left."""

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
            # http.client takes the end of the connection for the end of the headers: a 404 cut short, whose
            # Content-Length and body never came, would be an unknown job.
            raise http.client.RemoteDisconnected("the answer broke off in its headers")
        # What could not be read of the headers urllib3 would log, and with it a key that a proxy tells back.
        self.msg.defects.clear()
        self.msg.set_payload("")


class _Timed(HTTPConnection):
    response_class = _Answer
    _opening = False
    _used_at = 0.0

    @property
    def is_connected(self) -> bool:
        # urllib3 asks before it takes a connection from its pool, and closes one that answers False.
        return super().is_connected and _call().clock() - self._used_at < IDLE_S

    def connect(self) -> None:
        # Certain from here on, also if this was a pooled connection a moment ago: nothing has left yet.
        _call().sent = False
        self._opening = True
        try:
            super().connect()
        finally:
            self._opening = False

    def _new_conn(self) -> socket.socket:
        """As urllib3's own, but no address is tried for longer than the call has left."""
        call, trouble = _call(), OSError("the name has no address")
        host = self.host.strip("[]")
        try:
            found = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise NameResolutionError(host, self, error) from error
        except UnicodeError as error:
            raise NewConnectionError(self, f"{host!r} is not a host name") from error
        for family, kind, protocol, _, address in found:
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
        # A pooled connection begins here.
        _call().sent = False
        super().request(*args, **kwargs)

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        if self._opening or not isinstance(data, bytes):
            # Words with a proxy, before there is a way to RunPod. (What we send ourselves is bytes.)
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
        # The last step before urllib3 takes over. A connection that is not ours (SOCKS) will not tell when it sends.
        _call().sent = True
