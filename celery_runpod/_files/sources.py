"""Opens what a caller has at hand as a binary file, with its type and name: bytes, a path, an open file, a picture of
Pillow, an array of numpy.

Pillow and numpy are not needed: a caller who gives one of their values has imported them.

Not here: what becomes of the content (``files.py``, ``uploading.py``).
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from celery_runpod._files import content_types
from celery_runpod.errors import InvalidInput

TAKEN = "bytes, a Path, a file that is open for reading bytes, a picture of Pillow, or an array of numpy"


@dataclass(frozen=True)
class Source:
    """An open file at its start. `size_bytes` is None where it cannot be known before reading."""

    file: BinaryIO
    content_type: str
    name: str
    size_bytes: int | None

    @property
    def shown(self) -> str:
        return self.name or "the file"


@contextmanager
def opened(source: Any, content_type: str | None = None) -> Iterator[Source]:
    """What was given, open. A file that the caller has opened stays open, and is read from its start if it can be.

    Raises:
        InvalidInput: it is nothing that can be read as a file, or cannot be written in that type.
        OSError: the path cannot be read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        yield _source(io.BytesIO(source), content_type)
    elif isinstance(source, os.PathLike):
        with open(source, "rb") as read:
            yield _source(read, content_type, os.path.basename(os.fspath(source)))
    elif _is_picture(source):
        file, kind = _written_picture(source, content_type or "image/png")
        yield _source(file, kind)
    elif _is_array(source):
        yield _source(_written_array(source, content_type), content_types.ARRAY)
    elif callable(getattr(source, "read", None)):
        yield _open_file(source, content_type)
    else:
        raise InvalidInput(_refusal(source))


def _source(file: Any, content_type: str | None, name: str = "") -> Source:
    if not file.seekable():
        return Source(file, content_type or content_types.of_name(name) or content_types.UNKNOWN, name, None)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if content_type is None:
        content_type = content_types.of_name(name) or content_types.of_bytes(file.read(content_types.FIRST_BYTES))
        file.seek(0)
    return Source(file, content_type or content_types.UNKNOWN, name, size)


class _Rewindable:
    """A caller's open file (of Python, Django or Flask), with the few methods that are needed of it."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def seekable(self) -> bool:
        can = getattr(self._file, "seekable", None)
        return bool(can()) if can is not None else hasattr(self._file, "seek")

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        self._file.seek(place, whence)
        return int(self._file.tell())

    def tell(self) -> int:
        return int(self._file.tell())

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        if not isinstance(content, bytes):
            raise InvalidInput("the file is open for text: open it with mode 'rb'")
        return content

    def close(self) -> None:
        """boto3 closes what it has sent; the file is the caller's, and stays open."""


def _open_file(file: Any, content_type: str | None) -> Source:
    # Django's UploadedFile has `content_type` and `name`, Flask's FileStorage `content_type` and `filename`.
    name = getattr(file, "filename", None) or getattr(file, "name", None)
    said = content_type or getattr(file, "content_type", None)
    return _source(
        _Rewindable(file),
        said if isinstance(said, str) else None,
        os.path.basename(name) if isinstance(name, str) else "",
    )


def _is_picture(value: Any) -> bool:
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(value).__mro__)


def _is_array(value: Any) -> bool:
    return any(kind.__module__ == "numpy" and kind.__name__ == "ndarray" for kind in type(value).__mro__)


def _written_picture(picture: Any, content_type: str) -> tuple[io.BytesIO, str]:
    from PIL import Image

    Image.init()
    formats = {name: one for one, name in Image.MIME.items() if one in Image.SAVE}
    if content_type not in formats:
        raise InvalidInput(f"Pillow writes no {content_type!r}: give image/png, image/jpeg or image/webp")
    file = io.BytesIO()
    try:
        picture.save(file, formats[content_type])
    except (OSError, ValueError) as error:
        problem = (
            f"a picture of mode {picture.mode} cannot be written as {content_type} ({error}): convert it first, "
            "as picture.convert('RGB')"
        )
    else:
        return file, content_type
    raise InvalidInput(problem)


def _written_array(array: Any, content_type: str | None) -> io.BytesIO:
    import numpy

    if content_type not in (None, content_types.ARRAY):
        raise InvalidInput(
            f"an array is written as {content_types.ARRAY} alone, and {content_type!r} was asked for: make a picture of "
            "it first (PIL.Image.fromarray)"
        )
    if array.dtype.hasobject:
        raise InvalidInput(f"an array of dtype {array.dtype} holds Python objects, which only Python could read")
    file = io.BytesIO()
    numpy.save(file, array, allow_pickle=False)
    return file


def _refusal(value: Any) -> str:
    if isinstance(value, str):
        return (
            "a text was given: give Path(text) if it is a file's path, text.encode() if it is the content; a URL needs "
            "no helper, it is input as it is"
        )
    package = type(value).__module__.partition(".")[0]
    if package in ("torch", "jax", "jaxlib", "tensorflow", "cupy"):
        return f"a {type(value).__name__} of {package} was given: make a numpy array of it first"
    return f"a {type(value).__name__} was given; what can be read as a file: {TAKEN}"
