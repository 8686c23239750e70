"""Reads the API key and the base URLs, and checks ids before they become part of a URL. Sends nothing.

The key is a function that each call asks, so that a key can be rotated; no text holds its value.

The Serverless API (jobs) and the REST API (pods and endpoints as managed resources) have different hosts.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

from celery_runpod.errors import ConfigurationError, InvalidInput, NotConfigured

DEFAULT_BASE_URL = "https://api.runpod.ai/v2"

KEY_ADVICE = "keys are made in RunPod's console, under Settings"

_NO_KEY = "no RunPod API key: give api_key=, or set RUNPOD_API_KEY, or RUNPOD_API_KEY_FILE (a file that holds it)"
_ID = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._~:@=+-]{0,254}[A-Za-z0-9_~=+-])?")


class Key:
    """The API key; each call reads it."""

    def __init__(self, given: str | Callable[[], str] | None) -> None:
        self._given = given or os.environ.get("RUNPOD_API_KEY") or _from_file(os.environ.get("RUNPOD_API_KEY_FILE"))
        if not callable(given):
            self()  # a missing key raises here, not at the first call

    def __call__(self) -> str:
        """The key.

        Raises:
            NotConfigured: there is no key, or it holds characters that no key has. A function raises its own errors.
        """
        key = self._given() if callable(self._given) else self._given
        key = key.strip() if isinstance(key, str) else ""
        if not key:
            raise NotConfigured(_NO_KEY)
        if not (key.isascii() and key.isprintable()) or " " in key:
            key = ""  # the frame of this function is part of the error's traceback
            raise NotConfigured("the RunPod API key holds a space, a line break or another character that no key has")
        return key

    def __repr__(self) -> str:
        return "Key(***)"


def _from_file(path: str | None) -> Callable[[], str] | None:
    if not path:
        return None

    def content() -> str:
        try:
            return Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            problem = getattr(error, "strerror", None) or "it is not text"
        raise NotConfigured(f"RUNPOD_API_KEY_FILE={path} cannot be read: {problem}")

    return content


def base_url_of(given: str | None, allow_http: bool | None = None) -> str:
    """`given`, else `RUNPOD_BASE_URL`, else the SDK's `RUNPOD_ENDPOINT_BASE_URL`, else RunPod's own; without a slash
    at its end.

    Raises:
        ConfigurationError: not an http(s) URL; one with a user name, a query or a fragment; or `clear_text_problem`.
    """
    environ = os.environ
    url = given or environ.get("RUNPOD_BASE_URL") or environ.get("RUNPOD_ENDPOINT_BASE_URL") or DEFAULT_BASE_URL
    return _checked(url, DEFAULT_BASE_URL, allow_http)


def rest_url_of(given: str | None, default: str, allow_http: bool | None = None) -> str:
    """`given`, else `RUNPOD_REST_URL`, else the default; without a slash at its end.

    Raises:
        ConfigurationError: as for `base_url_of`.
    """
    return _checked(given or os.environ.get("RUNPOD_REST_URL") or default, default, allow_http)


def clear_text_problem(url: str, allow_http: bool) -> str | None:
    """What is wrong with `http://` to this host, or None. Anyone on the way can read the API key, inputs and outputs.
    So, unless `allow_http`, it is accepted for loopback, for private and link-local addresses, and for a name without a
    dot (as Compose's `simulator`) only."""
    parts = urlsplit(url)
    if allow_http or parts.scheme != "http" or not parts.hostname:
        return None
    host = parts.hostname.removesuffix(".")
    address = _address(host)
    if address is None and "." not in host:
        return None
    if address is not None and (address.is_loopback or address.is_private or address.is_link_local):
        return None
    return (
        "is http:// to a public host, so that anyone on the way reads the API key, inputs and outputs: use https://, or "
        "set RUNPOD_ALLOW_HTTP=1"
    )


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host stands for, also in the short forms that a resolver accepts (`134744072`)."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            return None
    return getattr(address, "ipv4_mapped", None) or address


def _allows_http(given: bool | None) -> bool:
    if given is not None:
        return given
    return os.environ.get("RUNPOD_ALLOW_HTTP", "").strip().lower() in ("1", "true", "yes", "on", "t", "y")


def _checked(url: str, example: str, allow_http: bool | None) -> str:
    if problem := _problem(url) or clear_text_problem(url, _allows_http(allow_http)):
        # Not the URL itself: it may hold a password.
        raise ConfigurationError(f"the base URL of RunPod's API {problem}; it must look like {example}")
    return url.rstrip("/")


def _problem(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "cannot be read"
    if parts.scheme not in ("http", "https") or not host:
        return "is not an http:// or https:// URL"
    if "@" in parts.netloc:
        return "holds a user name or password"
    return "holds a query or a fragment" if parts.query or parts.fragment else None


def path_of(endpoint: str, operation: str, *job_id: str) -> str:
    """`endpoint/operation` or `endpoint/operation/job`, quoted.

    Raises:
        InvalidInput: an id that would change the path: empty, or with a slash, a space or `..`. Nothing was sent.
    """
    return "/".join([part_of("endpoint", endpoint), operation, *(part_of("job", one) for one in job_id)])


def part_of(kind: str, value: str | None) -> str:
    """An id as a part of a path, quoted.

    Raises:
        InvalidInput: as for `path_of`.
    """
    if not isinstance(value, str) or not _ID.fullmatch(value) or ".." in value:
        shown = repr(value) if isinstance(value, str) and len(value) <= 80 else f"a {type(value).__name__}"
        raise InvalidInput(f"{shown} cannot be the id of a RunPod {kind}: letters, digits and '-' are expected")
    return quote(value, safe="")
