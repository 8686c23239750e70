"""Puts a file where a handler can fetch it: into a bucket of S3 or its like, or into a storage of Django.

boto3 (the extra `s3`) does the work for buckets: it finds credentials, repeats what failed, and sends large files in
parts. Nothing of it is imported before the first upload.

Not here: opening what is uploaded (``sources.py``).
"""

from __future__ import annotations

import os
import re
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import urlsplit

from celery_runpod._files.content_types import suffix_of
from celery_runpod._files.sources import Source
from celery_runpod.api._durations import bounded
from celery_runpod.errors import FileUnavailable, InvalidOption, MissingExtra, NotConfigured

LONGEST_S = 604_800.0
"""A URL that is signed with a key is valid for a week at most (AWS, Signature Version 4)."""
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0


class Storage(Protocol):
    """What is used of a storage of Django."""

    def save(self, name: str, content: Any) -> str: ...

    def url(self, name: str) -> str: ...


@dataclass(frozen=True)
class Bucket:
    """A bucket of S3, or of a service that speaks its protocol (R2, B2, MinIO).

    Args:
        name: the bucket's name.
        endpoint_url: the service's URL; AWS without it.
        prefix: what the name of each file in the bucket begins with, as `inputs`.
        access_key, secret_key: of a user that may put and get objects there; without them boto3 looks where it always
            does (`AWS_ACCESS_KEY_ID`, `~/.aws`, the role of the machine).
        region: the bucket's region, where the service needs one.

    Raises:
        InvalidOption: one key without the other, no name, or an `endpoint_url` that is no URL.
    """

    name: str
    endpoint_url: str | None = None
    prefix: str = ""
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    region: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InvalidOption("name", self.name, "the name of a bucket")
        if (self.access_key is None) != (self.secret_key is None):
            raise InvalidOption("secret_key", "one key", "both access_key and secret_key, or neither")
        if self.endpoint_url is not None and urlsplit(self.endpoint_url).scheme not in ("http", "https"):
            raise InvalidOption("endpoint_url", self.endpoint_url, "an http(s) URL")


def upload(source: Source, to: Bucket | Storage, name: str | None, expires: float | timedelta | None) -> str:
    """Store an open file; returns a URL from which it can be fetched.

    Raises:
        as `celery_runpod.files.upload`.
    """
    key = f"{uuid.uuid4().hex}/{_safe(name or source.name) or 'file' + suffix_of(source.content_type)}"
    if isinstance(to, Bucket):
        seconds = bounded("expires", timedelta(days=1) if expires is None else expires, 1, LONGEST_S)
        return _into_bucket(source, to, f"{to.prefix.strip('/')}/{key}".lstrip("/"), seconds)
    if not (callable(getattr(to, "save", None)) and callable(getattr(to, "url", None))):
        raise InvalidOption("to", type(to).__name__, "a files.Bucket, or a storage of Django (save and url)")
    if expires is not None:
        raise InvalidOption("expires", expires, "nothing with a storage of Django: its own setting says how long")
    return _into_storage(source, to, key)


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", re.split(r"[/\\]", name)[-1]).strip("._")[-100:]


def _into_storage(source: Source, storage: Storage, key: str) -> str:
    url = storage.url(storage.save(key, source.file))
    if urlsplit(url).scheme not in ("http", "https"):
        raise InvalidOption(
            "to",
            type(storage).__name__,
            f"a storage whose URLs are absolute: {url[:60]!r} has no host to fetch it from",
        )
    return url


def _into_bucket(source: Source, bucket: Bucket, key: str, expires_s: float) -> str:
    client = _client(bucket, os.getpid())
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        client.upload_fileobj(source.file, bucket.name, key, ExtraArgs={"ContentType": source.content_type})
        url: str = client.generate_presigned_url(
            "get_object", Params={"Bucket": bucket.name, "Key": key}, ExpiresIn=int(expires_s)
        )
    except NoCredentialsError:
        failed: Exception = NotConfigured(
            f"no credentials for bucket {bucket.name!r}: give Bucket(access_key=, secret_key=), or set AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY"
        )
    except (Boto3Error, BotoCoreError, ClientError) as error:
        failed = FileUnavailable(
            f"the bucket did not take {source.shown}: {str(error)[:300]}", _place(bucket), _status(error)
        )
    else:
        return url
    raise failed


def _place(bucket: Bucket) -> str:
    parts = urlsplit(bucket.endpoint_url or "https://s3.amazonaws.com")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{bucket.name}"


def _status(error: BaseException | None) -> int | None:
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return status if isinstance(status, int) else None
        error = error.__cause__ or error.__context__
    return None


@lru_cache(maxsize=32)
def _client(bucket: Bucket, process_id: int) -> Any:
    """A client of each bucket and process: a forked process must not use its parent's connections."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        missing = True
    else:
        missing = False
    if missing:
        raise MissingExtra("files.upload to a bucket needs the package 'boto3': pip install 'celery-runpod[s3]'")
    config = Config(
        signature_version="s3v4",
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"max_attempts": 3, "mode": "standard"},
        # Newer checksums are unknown to some services that speak S3's protocol.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.client(
        "s3",
        endpoint_url=bucket.endpoint_url,
        aws_access_key_id=bucket.access_key,
        aws_secret_access_key=bucket.secret_key,
        region_name=bucket.region or (None if bucket.endpoint_url is None else "us-east-1"),
        config=config,
    )
