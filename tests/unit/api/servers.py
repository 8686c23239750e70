"""A server on loopback that answers as a test tells it to, down to the byte and the reset.

`Loopback(answer)`: `answer(request)` gives the bytes of an answer, or an `Act`: what is done to the connection instead.
Nothing here knows RunPod; that is the simulator's work.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Request:
    """What arrived. `connection` counts from 1."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    def json(self) -> Any:
        return json.loads(self.body)


Act = Callable[[socket.socket, threading.Event], None]
Answer = Callable[[Request], "bytes | Act"]


def answer(data: Any, status: int = 200, **headers: str) -> bytes:
    """An answer with JSON (or, given bytes, with those). `retry_after="5"` becomes a `Retry-After` header."""
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    told = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    told |= {name.replace("_", "-").title(): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + body


def hang_up(sock: socket.socket, stopped: threading.Event) -> None:
    """The connection is closed without an answer."""


def reset(sock: socket.socket, stopped: threading.Event) -> None:
    """The connection is reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def silence(sock: socket.socket, stopped: threading.Event) -> None:
    """No answer ever comes."""
    stopped.wait(30)


def only(*pieces: bytes) -> Act:
    """These bytes, and then the connection is closed."""

    def act(sock: socket.socket, stopped: threading.Event) -> None:
        for piece in pieces:
            sock.sendall(piece)

    return act


def trickle(pieces: Iterable[bytes]) -> Act:
    """A piece now and then, each well within a read timeout, until the client has had enough."""

    def act(sock: socket.socket, stopped: threading.Event) -> None:
        for piece in pieces:
            if stopped.wait(0.02):
                return
            sock.sendall(piece)

    return act


class Loopback:
    """A server of one thread for each connection.

    Args:
        answer: what each request gets.
        tls: speak TLS with this context.
        mute: accept connections, and never say a word.
    """

    def __init__(self, answer: Answer, *, tls: ssl.SSLContext | None = None, mute: bool = False) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.connections = 0
        self._tls = tls
        self._mute = mute
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.origin = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.url = f"{self.origin}/v2"
        self._open: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """No further connections, and the open ones are closed."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(10)
        self._listener.close()
        for sock in self._open:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(sock)
            threading.Thread(target=self._serve, args=(sock, self.connections), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            if self._mute:
                silence(sock, self._stopped)
            elif self._tls is not None:
                with self._tls.wrap_socket(sock, server_side=True) as secured:
                    self._converse(secured, number)
            else:
                self._converse(sock, number)
        except OSError:
            return  # the client has left
        finally:
            sock.close()

    def _converse(self, sock: socket.socket, number: int) -> None:
        stream = sock.makefile("rb")
        while (request := _read(stream, number)) is not None:
            self.requests.append(request)
            told = self.answer(request)
            if isinstance(told, bytes):
                sock.sendall(told)
            else:
                stream.close()
                told(sock, self._stopped)
                return


def _read(stream: Any, number: int) -> Request | None:
    first = stream.readline()
    if b" HTTP/1." not in first:
        return None  # the end, or not HTTP at all
    method, path, _ = first.decode().split(" ", 2)
    headers: dict[str, str] = {}
    while line := stream.readline().decode().strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", 0)))
    return Request(method, path, headers, body, number)
