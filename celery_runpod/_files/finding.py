"""Finds the files in an output, by the forms in which RunPod's popular workers give them.

| worker | output |
|---|---|
| worker-comfyui from 5.0 | `{"images": [{"filename", "type": "base64" or "s3_url", "data"}]}` |
| worker-comfyui before | `{"message": base64 or URL, "status"}` |
| worker-sdxl | `{"image_url", "images": [data URL or URL], "seed"}` |
| worker-a1111 | `{"images": [base64], "parameters", "info"}` |
| worker-vllm-omni | `{"data": [{"b64_json"}]}`, `{"data_b64", "content_type", "size_bytes"}` |
| public endpoints | `{"image_url": URL}`, `{"result": URL}`, `{"video_url": URL}` |
| a handler of one's own | `{"image": base64}`, a list of any of these, or one text |

A URL or a data URL is found under every name of the table; base64 text under a name that holds nothing else, or where its
first bytes are those of a known type: `{"message": "done"}` is no file, although it is base64.

Not here: reading what was found (``reading.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from celery_runpod._files import content_types
from celery_runpod._files.encoded_text import begins_base64, first_bytes

MOST_NAME_CHARS = 100
FILE_FIELDS = frozenset(
    {
        *("image", "images", "image_url", "image_urls", "images_url", "image_base64", "image_b64", "png", "jpg"),
        *("video", "videos", "video_url", "video_urls", "video_base64"),
        *("audio", "audios", "audio_url", "audio_urls", "audio_base64"),
        *("file", "files", "file_url", "file_urls", "b64_json", "data_b64", "base64"),
    }
)
"""Fields that hold a file or a list of files, and nothing else."""
OTHER_FIELDS = frozenset({"data", "message", "result", "results", "output", "outputs", "url", "urls"})
"""Fields that hold a file in some outputs, and something else in others."""


@dataclass(frozen=True)
class OutputFile:
    """A file of an output, as `find` gives it; `read` and `save` take it.

    `where` is its place (`output.images[0]`), `url` its http(s) URL or None. `name` and `content_type` are as the output,
    its URL or its first bytes say; a name is safe to use in a folder, and a type may be `application/octet-stream`.
    """

    text: str = field(repr=False)
    where: str
    name: str
    content_type: str

    @property
    def url(self) -> str | None:
        """Its http(s) URL; None if the output has the content itself."""
        return self.text if is_url(self.text) else None


def is_url(text: str) -> bool:
    return text[:8].lower().startswith(("http://", "https://"))


def is_data_url(text: str) -> bool:
    return text[:5].lower() == "data:"


def find(output: Any, where: str = "output") -> list[OutputFile]:
    """The files of an output, in its order, each once: worker-sdxl names its first image twice."""
    found, seen = [], set()
    texts = [(where, "", output, {})] if isinstance(output, str) else _walk(output, where)
    for place, name, text, beside in texts:
        if text not in seen:
            seen.add(text)
            found.append(_found(text, place, name, beside))
    return found


def _walk(value: Any, where: str) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Each text that is a file: its place, its field's name, and the dict that it stands in."""
    if isinstance(value, list):
        for index, one in enumerate(value):
            place = f"{where}[{index}]"
            if isinstance(one, str) and _is_file(one, "", {}):
                yield place, "", one, {}
            elif not isinstance(one, str):
                yield from _walk(one, place)
    elif isinstance(value, dict):
        for name, one in value.items():
            for place, text in _texts(one, f"{where}.{name}"):
                if _is_file(text, name, value):
                    yield place, name, text, value
            if not isinstance(one, str):
                yield from _walk_inside(one, f"{where}.{name}")


def _walk_inside(value: Any, where: str) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """As `_walk`, for what stands in a field: the texts of a list are the field's own."""
    if isinstance(value, list):
        for index, one in enumerate(value):
            yield from _walk_inside(one, f"{where}[{index}]")
    elif isinstance(value, dict):
        yield from _walk(value, where)


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, list):
        for index, one in enumerate(value):
            if isinstance(one, str):
                yield f"{where}[{index}]", one


def _is_file(text: str, name: str, beside: dict[str, Any]) -> bool:
    name = name.lower()
    if name and name not in FILE_FIELDS | OTHER_FIELDS:
        return False
    if is_url(text) or is_data_url(text):
        return True
    says_so = name in FILE_FIELDS or beside.get("type") == "base64"
    return begins_base64(text) and (says_so or content_types.of_bytes(first_bytes(text)) is not None)


def _found(text: str, where: str, name: str, beside: dict[str, Any]) -> OutputFile:
    said = beside.get("content_type") or beside.get("mime_type")
    kind = said if isinstance(said, str) else None
    given = beside.get("filename") or beside.get("file_name")
    if is_data_url(text):
        kind = text[5:200].partition(",")[0].partition(";")[0].strip().lower() or kind
    if is_url(text):
        given = given or unquote(_path(text)).rpartition("/")[2]
    else:
        kind = kind or content_types.of_bytes(first_bytes(text))
    named = _safe_name(given) if isinstance(given, str) else ""
    kind = kind or content_types.of_name(named) or content_types.UNKNOWN
    if not named:
        index = "".join(f"-{number}" for number in re.findall(r"\[(\d+)\]", where))
        named = f"{_safe_name(name) or 'file'}{index}{content_types.suffix_of(kind)}"
    return OutputFile(text, where, named, kind)


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def _safe_name(name: str) -> str:
    """A name that means a file in any folder: no path, no leading dot, none but plain characters. It comes from outside.

    >>> _safe_name("../../etc/pass wd")
    'pass_wd'
    """
    last = re.split(r"[/\\]", name)[-1]
    return re.sub(r"[^A-Za-z0-9._-]", "_", last).strip("._-")[-MOST_NAME_CHARS:]
