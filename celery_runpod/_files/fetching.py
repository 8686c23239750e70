"""Fetches a file from a URL of an output: bounded in size and in time, and from public addresses alone.

An output is what a handler, or whoever can make one write, has returned: a URL in it may name a server of your own
network, or a cloud's metadata service. So the host's addresses are looked up once, refused unless they are public, and
the connection is made to one of those. Each redirect is a new fetch, with the same checks. No proxy is used, because the
proxy would choose the address; no cookie, no .netrc, and no header of yours is sent.

Not here: which texts of an output are URLs (``finding.py``).
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import BinaryIO, TypeVar
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests

from celery_runpod.api._connections import FAILURES, AddressRefused, Call, TimedSession, calling, causes
from celery_runpod.api._durations import bounded
from celery_runpod.api._http_errors import shorten
from celery_runpod.errors import FileRefused, FileUnavailable

T = TypeVar("T")

LIMIT_BYTES = 200_000_000
TIMEOUT_S = 120.0
MOST_TIMEOUT_S = 86_400.0
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
MOST_REDIRECTS = 5
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class Rules:
    """What may be fetched, and for how long. `timeout_s` holds for the whole fetch, with its redirects."""

    limit_bytes: int
    timeout_s: float
    allow_http: bool
    allow_private: bool
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def of(cls, limit_bytes: int, timeout: float | timedelta, allow_http: bool, allow_private: bool) -> Rules:
        """Raises:
        InvalidOption: the timeout is no duration, or out of its bounds.
        """
        return cls(limit_bytes, bounded("timeout", timeout, 0.1, MOST_TIMEOUT_S), allow_http, allow_private)


def fetch(url: str, into: BinaryIO, rules: Rules, where: str) -> str | None:
    """Write the file into an open file; returns the content type that the server names, if any.

    Raises:
        FileRefused: scheme, address, size or redirects are over the rules.
        FileUnavailable: no answer, or none of 200.
    """
    call = Call(rules.clock() + rules.timeout_s, CONNECT_TIMEOUT_S, READ_TIMEOUT_S, rules.clock)
    call.refused = None if rules.allow_private else _refused
    with _session() as session:
        for _ in range(MOST_REDIRECTS + 1):
            _check_url(url, rules, where)
            redirect, content_type = _get(session, url, into, call, rules, where)
            if redirect is None:
                return content_type
            url = redirect
    raise FileRefused(f"more than {MOST_REDIRECTS} redirects, the last to {shown(url)}", where)


def shown(url: str) -> str:
    """A URL without its user and its query, which may be a signature."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))[:200]


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet.

    >>> [is_public(one) for one in ("93.184.216.34", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "64:ff9b::a00:1")]
    [True, False, False, False, False]
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        # Addresses that stand for one of IPv4 lead where that one leads.
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast


def _refused(address: str) -> str | None:
    if is_public(address):
        return None
    return f"{address} is no public address; allow_private=True fetches from there too"


def _check_url(url: str, rules: Rules, where: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise FileRefused(f"no URL: {url[:80]!r}", where) from None
    if parts.scheme not in ("http", "https") or not host:
        raise FileRefused(f"no http(s) URL with a host: {shown(url)}", where)
    if parts.scheme == "http" and not rules.allow_http:
        raise FileRefused(f"{shown(url)} is not https; allow_http=True fetches it all the same", where)


def _session() -> requests.Session:
    session = TimedSession()
    session.trust_env = False
    session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
    session.headers = requests.structures.CaseInsensitiveDict({"Accept": "*/*", "Accept-Encoding": "identity"})
    return session


def _get(
    session: requests.Session, url: str, into: BinaryIO, call: Call, rules: Rules, where: str
) -> tuple[str | None, str | None]:
    """One GET: the URL of a redirect, or else the content type, with the content in `into`."""
    timeout = (call.connect_timeout_s, call.read_timeout_s)
    answer = _tried(lambda: session.get(url, stream=True, allow_redirects=False, timeout=timeout), url, call, where)
    try:
        if answer.is_redirect:
            return _target(url, answer.headers["Location"], where), None
        if answer.status_code != 200:
            raise FileUnavailable(f"the server answers {answer.reason or 'no file'}", shown(url), answer.status_code)
        said, size, pieces = answer.headers.get("Content-Length", ""), 0, answer.iter_content(65_536)
        while True:
            # What the server says of the size ends a fetch that cannot succeed before it is paid for in time.
            if max(size, int(said) if said.isdecimal() else 0) > rules.limit_bytes:
                problem = f"it has more than {rules.limit_bytes / 1e6:g} MB, which is the limit (limit_bytes)"
                raise FileRefused(f"{shown(url)}: {problem}", where)
            if not (piece := _tried(lambda: next(pieces, b""), url, call, where)):
                break
            size += len(piece)
            into.write(piece)
    finally:
        with calling(call):
            answer.close()
    return None, answer.headers.get("Content-Type", "").partition(";")[0].strip().lower() or None


def _target(url: str, location: str, where: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        problem = f"{shown(url)} redirects to what is no URL"
    raise FileRefused(problem, where)


def _tried(step: Callable[[], T], url: str, call: Call, where: str) -> T:
    """What a step of the exchange returns. Its errors are raised outside of `except`: those of `requests` hold the URL
    with its signature."""
    try:
        with calling(call):
            return step()
    except FAILURES as error:
        *_, root = causes(error)
    if isinstance(root, AddressRefused):
        raise FileRefused(f"{shown(url)}: {root}", where)
    raise FileUnavailable(shorten(str(root).strip() or type(root).__name__), shown(url))
