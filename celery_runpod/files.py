"""Files on their way to a handler, and from it: both are JSON, an input of at most 10 MB, an output of about 20.

    to a handler      data_url, base64_text     a small file, as text in the input
                      upload                    any file, into a bucket or a storage of Django; the input has its URL
    from a handler    read, save                the content of an output that is a file
                      find                      the files of an output that has several

>>> data_url(b"GIF89a", "image/gif")
'data:image/gif;base64,R0lGODlh'
>>> read({"image": "R0lGODlh", "seed": 7})
b'GIF89a'

What `data_url`, `base64_text` and `upload` take:

| given | what is sent |
|---|---|
| bytes | these |
| a `Path` | the file's content |
| an open file of bytes; an upload of Django or Flask | its content, from its start where it can be rewound |
| a picture of Pillow | PNG; JPEG, WebP, ... with `content_type="image/jpeg"` |
| an array of numpy | numpy's own format, which keeps shape and dtype: `numpy.load(io.BytesIO(content))` reads it |

Pillow and numpy need not be installed. In async code call these functions by `asyncio.to_thread`: they read, send and
wait.
"""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

from celery_runpod._files import reading
from celery_runpod._files.encoded_text import encoded, encoded_size
from celery_runpod._files.fetching import LIMIT_BYTES, TIMEOUT_S, Rules
from celery_runpod._files.finding import OutputFile
from celery_runpod._files.finding import find as _find
from celery_runpod._files.sources import Source, opened
from celery_runpod._files.uploading import Bucket, Storage
from celery_runpod._files.uploading import upload as _upload
from celery_runpod.api._payload import RUN_LIMIT_BYTES
from celery_runpod.errors import PayloadTooLarge

__all__ = ["Bucket", "OutputFile", "base64_text", "data_url", "find", "read", "save", "upload"]


def data_url(source: Any, content_type: str | None = None) -> str:
    """A small file as a data URL (`data:image/png;base64,...`), for an input.

    Args:
        source: see the table above.
        content_type: as `image/png`; by the file's name or its first bytes without it.

    Raises:
        PayloadTooLarge: it would not fit into a request to RunPod, which has 10 MB.
        InvalidInput: it cannot be read as a file, or not be written in that type.
        OSError: the path cannot be read.
    """
    with opened(source, content_type) as found:
        head = f"data:{found.content_type};base64,"
        return head + encoded(_content(found, len(head), "a data URL"))


def base64_text(source: Any, content_type: str | None = None) -> str:
    """As `data_url`, without what stands before the comma: some handlers take the base64 alone."""
    with opened(source, content_type) as found:
        return encoded(_content(found, 0, "base64"))


def upload(
    source: Any,
    to: Bucket | Storage,
    *,
    name: str | None = None,
    content_type: str | None = None,
    expires: float | timedelta | None = None,
) -> str:
    """Put a file of any size where a handler can fetch it; returns its URL, for an input.

    The name in the bucket begins with a random part, so nothing is overwritten and nobody guesses it. Nothing is deleted:
    give the bucket a rule that lets objects expire.

    Args:
        source: see the table above. A path and an open file are read in parts.
        to: a `Bucket`, or a storage of Django (`default_storage`) whose URLs are absolute.
        name: the file's name at the end of the URL; that of the path, or of the upload, without it.
        content_type: as for `data_url`.
        expires: how long the URL of a bucket is valid, a week at most, a day without it. It must be longer than the job's
            deadline. A key that itself expires, as that of a machine's role, ends it earlier.

    Raises:
        MissingExtra: boto3 is not installed (`pip install 'celery-runpod[s3]'`).
        NotConfigured: no credentials. FileUnavailable: the bucket does not take the file.
        InvalidInput, OSError: as for `data_url`.
        InvalidOption: `to` is neither, or `expires` is out of its bounds.
    """
    with opened(source, content_type) as found:
        return _upload(found, to, name, expires)


def find(output: Any) -> list[OutputFile]:
    """The files of an output, by the forms in which RunPod's popular workers give them: data URLs, base64 text and
    http(s) URLs, under the names that they use (`image`, `images`, `image_url`, `video`, `audio`, `data`, `result`, ...).
    Empty if there is none. Nothing is fetched."""
    return _find(output)


def read(
    output: Any,
    *,
    limit_bytes: int = LIMIT_BYTES,
    timeout: float | timedelta = TIMEOUT_S,
    allow_http: bool = False,
    allow_private: bool = False,
) -> bytes:
    """The content of an output that is one file, or has one: a data URL, base64 text, an http(s) URL, or one of the forms
    of `find`.

    Args:
        output: an output, a part of one, or an `OutputFile`.
        limit_bytes: the largest content that is read: 200 MB without it.
        timeout: for the whole fetch of a URL.
        allow_http: whether a URL may be `http://`, which anyone on the way can read and change.
        allow_private: whether a URL may lead to an address that is not public. An output is input from outside: whoever
            writes one could have your server read from its own network.

    Raises:
        FileRefused: it holds no file or several, is over the limit, or has a URL that is not fetched.
        FileUnavailable: the file's server does not give it. An http(s) URL of a bucket often expires within hours.
        InvalidOption: the timeout is out of its bounds.
    """
    into = io.BytesIO()
    reading.write(_one(output), into, Rules.of(limit_bytes, timeout, allow_http, allow_private))
    return into.getvalue()


def save(
    output: Any,
    path: str | Path,
    *,
    limit_bytes: int = LIMIT_BYTES,
    timeout: float | timedelta = TIMEOUT_S,
    allow_http: bool = False,
    allow_private: bool = False,
) -> Path:
    """As `read`, into a file: whole, or not at all. Its folder must be there. Returns the path.

    Raises:
        as `read`. OSError: the path cannot be written.
    """
    path = Path(path)
    reading.save(_one(output), path, Rules.of(limit_bytes, timeout, allow_http, allow_private))
    return path


def _one(output: Any) -> OutputFile:
    return output if isinstance(output, OutputFile) else reading.the_only_file(output)


def _content(found: Source, head_bytes: int, form: str) -> bytes:
    """What an input can carry as text.

    Raises:
        PayloadTooLarge: it is more.
    """
    most = (RUN_LIMIT_BYTES - head_bytes) // 4 * 3
    content = b""
    if found.size_bytes is None or found.size_bytes <= most:
        # A file that cannot be rewound may give less at a time than was asked for.
        while len(content) <= most and (piece := found.file.read(most + 1 - len(content))):
            content += piece
    if (size := max(len(content), found.size_bytes or 0)) > most:
        at_least = "more than " if found.size_bytes is None else ""
        size_as_text = encoded_size(size) + head_bytes
        problem = (
            f"{found.shown} has {at_least}{size / 1e6:.1f} MB, which is {at_least}{size_as_text / 1e6:.1f} MB as {form}, "
            f"and RunPod takes at most {RUN_LIMIT_BYTES / 1e6:g} MB: put it into a bucket with "
            "celery_runpod.files.upload, and send the URL"
        )
        raise PayloadTooLarge(problem, None, None, size_as_text, RUN_LIMIT_BYTES)
    return content
