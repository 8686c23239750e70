"""Which type a file's content has: by its name, and by its first bytes.

The types are those that RunPod's workers take and give. Python's `mimetypes` knows more, but what it knows depends on the
machine, so it is asked last.
"""

from __future__ import annotations

import mimetypes

UNKNOWN = "application/octet-stream"
ARRAY = "application/x-npy"
FIRST_BYTES = 16
"""As many as `of_bytes` looks at."""

SUFFIXES = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "image/avif": ".avif",
    "audio/wav": ".wav",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/flac": ".flac",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "model/gltf-binary": ".glb",
    "application/pdf": ".pdf",
    "application/zip": ".zip",
    ARRAY: ".npy",
}
_TYPES = {suffix: name for name, suffix in SUFFIXES.items()} | {".jpeg": "image/jpeg"}
_BEGINNINGS = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (4, b"ftypavif", "image/avif"),
    (8, b"WAVE", "audio/wav"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"OggS", "audio/ogg"),
    (0, b"fLaC", "audio/flac"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
    (0, b"glTF", "model/gltf-binary"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"\x93NUMPY", ARRAY),
)


def of_name(name: str) -> str | None:
    """The type by a file's name or path; None if its suffix says nothing.

    >>> of_name("pictures/Cat.PNG")
    'image/png'
    """
    _, dot, suffix = name.rpartition(".")
    return _TYPES.get(f".{suffix.lower()}") or mimetypes.guess_type(name)[0] if dot else None


def of_bytes(content: bytes) -> str | None:
    """The type by the first bytes; None if they are of no type in the table above.

    >>> of_bytes(b"%PDF-1.7")
    'application/pdf'
    """
    for place, beginning, name in _BEGINNINGS:
        if content[place : place + len(beginning)] == beginning:
            return name
    return None


def suffix_of(content_type: str) -> str:
    """The suffix of a file's name, with its dot; empty for an unknown type.

    >>> suffix_of("image/jpeg")
    '.jpg'
    """
    if content_type == UNKNOWN:
        return ""
    return SUFFIXES.get(content_type) or mimetypes.guess_extension(content_type) or ""
