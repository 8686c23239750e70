"""Files on their way to a handler and from it: what may be given, what outputs look like, and what is not fetched."""

from __future__ import annotations

import base64
import contextlib
import io
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.conf import settings
from django.core.files.storage import FileSystemStorage
from django.core.files.uploadedfile import SimpleUploadedFile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from werkzeug.datastructures import FileStorage

from celery_runpod import Endpoint, errors, files
from celery_runpod._files import fetching, uploading
from tests.waiting import eventually

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(200))
PNG_TEXT = base64.b64encode(PNG).decode()
DATA_URL = f"data:image/png;base64,{PNG_TEXT}"


def content_of(url: str) -> tuple[str, bytes]:
    head, _, body = url.partition(",")
    return head.removeprefix("data:").removesuffix(";base64"), base64.b64decode(body)


def picture(mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (4, 3), "red" if mode == "RGB" else None)


# ---------------------------------------------------------------- what is sent


def test_bytes_become_a_data_url_of_the_type_that_they_begin_with() -> None:
    assert content_of(files.data_url(PNG)) == ("image/png", PNG)
    assert content_of(files.data_url(bytearray(b"x"))) == ("application/octet-stream", b"x")
    assert content_of(files.data_url(memoryview(b"x"), "text/plain")) == ("text/plain", b"x")
    assert base64.b64decode(files.base64_text(PNG)) == PNG
    assert files.data_url(b"") == "data:application/octet-stream;base64,"


def test_a_path_is_read_and_its_name_says_the_type(tmp_path: Path) -> None:
    (tmp_path / "voice.MP3").write_bytes(b"noise")
    assert content_of(files.data_url(tmp_path / "voice.MP3")) == ("audio/mpeg", b"noise")
    with pytest.raises(FileNotFoundError):
        files.data_url(tmp_path / "nothing.png")


def test_an_open_file_is_read_from_its_start_and_stays_open(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    with open(tmp_path / "a.png", "rb") as file:
        file.read(50)
        assert content_of(files.data_url(file)) == ("image/png", PNG)
        assert not file.closed
    with open(tmp_path / "a.png", encoding="latin-1") as text, pytest.raises(errors.InvalidInput, match="mode 'rb'"):
        files.data_url(text)


def test_a_file_that_cannot_be_rewound_is_read_to_its_end() -> None:
    read, write = socket.socketpair()
    with read, write:
        writer = threading.Thread(target=lambda: (write.sendall(PNG * 5000), write.close()))
        writer.start()
        with read.makefile("rb", buffering=0) as file:
            assert content_of(files.data_url(file, "image/png")) == ("image/png", PNG * 5000)
        writer.join()


def test_an_upload_of_django_and_of_flask_is_a_file() -> None:
    if not settings.configured:
        settings.configure()
    django, flask = SimpleUploadedFile("cat.bin", PNG, "image/x-cat"), FileStorage(io.BytesIO(PNG), "cat.png")
    django.read()
    assert content_of(files.data_url(django)) == ("image/x-cat", PNG)
    assert content_of(files.data_url(flask))[1] == PNG


def test_a_picture_is_sent_as_png_or_as_what_is_asked_for() -> None:
    kind, content = content_of(files.data_url(picture()))
    assert kind == "image/png" and Image.open(io.BytesIO(content)).getpixel((0, 0)) == (255, 0, 0)
    kind, content = content_of(files.data_url(picture(), "image/jpeg"))
    assert kind == "image/jpeg" and Image.open(io.BytesIO(content)).format == "JPEG"
    with pytest.raises(
        errors.InvalidInput, match=r"mode RGBA cannot be written as image/jpeg .* picture.convert\('RGB'\)"
    ):
        files.data_url(picture("RGBA"), "image/jpeg")
    with pytest.raises(errors.InvalidInput, match="Pillow writes no 'video/mp4'"):
        files.data_url(picture(), "video/mp4")


class Array:
    """As numpy's array is seen from outside."""

    def __init__(self, dtype: str, hasobject: bool = False) -> None:
        self.dtype = SimpleNamespace(hasobject=hasobject, __str__=lambda: dtype)


Array.__module__, Array.__name__ = "numpy", "ndarray"


def test_an_array_is_sent_in_numpys_own_format(monkeypatch: pytest.MonkeyPatch) -> None:
    numpy = ModuleType("numpy")
    saved: list[Any] = []
    numpy.save = lambda file, array, *, allow_pickle: saved.append((array, allow_pickle)) or file.write(b"\x93NUMPY1")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "numpy", numpy)
    array = Array("uint8")
    assert content_of(files.data_url(array)) == ("application/x-npy", b"\x93NUMPY1")
    assert saved == [(array, False)]
    with pytest.raises(errors.InvalidInput, match="holds Python objects"):
        files.data_url(Array("object", hasobject=True))
    with pytest.raises(errors.InvalidInput, match=r"application/x-npy alone, .*PIL.Image.fromarray"):
        files.data_url(array, "image/png")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("cat.png", r"give Path\(text\)"),
        (7, "a int was given; what can be read as a file: bytes, a Path"),
        ({}, "a dict"),
    ],
)
def test_what_is_no_file_is_refused_with_what_is(given: Any, text: str) -> None:
    with pytest.raises(errors.InvalidInput, match=text):
        files.data_url(given)


def test_a_file_over_runpods_limit_is_refused_with_its_size_and_what_to_do(tmp_path: Path) -> None:
    """7.5 MB are 10 MB as base64, which is RunPod's limit (docs.runpod.io/serverless/endpoints/operation-reference)."""
    large = tmp_path / "film.mp4"
    with open(large, "wb") as file:
        file.truncate(9_100_000)
    for source in (large, large.read_bytes()):
        with pytest.raises(errors.PayloadTooLarge) as caught:
            files.data_url(source)
        assert "9.1 MB, which is 12.1 MB as a data URL, and RunPod takes at most 10 MB" in str(caught.value)
        assert "celery_runpod.files.upload" in str(caught.value)
        assert (caught.value.size_bytes, caught.value.limit_bytes) == (
            12_133_358 if source is large else 12_133_373,
            10_000_000,
        )
    assert len(files.base64_text(bytes(7_500_000))) == 10_000_000
    with pytest.raises(errors.PayloadTooLarge, match="as base64"):
        files.base64_text(bytes(7_500_001))


class Endless(io.RawIOBase):
    taken = 0

    def seekable(self) -> bool:
        return False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.taken += len(buffer)
        return len(buffer)


def test_a_stream_without_an_end_is_not_read_beyond_the_limit() -> None:
    endless = Endless()
    with pytest.raises(errors.PayloadTooLarge, match=r"more than 7\.5 MB"):
        files.data_url(endless, "video/mp4")
    assert endless.taken < 8_000_000


@pytest.mark.parametrize("value", [b"png", bytearray(b"png"), picture(), io.BytesIO(b"png"), Array("uint8")])
def test_a_call_with_a_file_names_the_helpers(value: Any) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        Endpoint("sdxl").s(image=value)
    assert str(caught.value).startswith("input.image is a ")
    assert "celery_runpod.files.data_url" in str(caught.value) and "celery_runpod.files.upload" in str(caught.value)


# ---------------------------------------------------------------- what outputs look like

OUTPUTS: list[tuple[str, Any, list[tuple[str, str, str]]]] = [
    ("a text", DATA_URL, [("output", "file.png", "image/png")]),
    ("a text of base64", PNG_TEXT, [("output", "file.png", "image/png")]),
    ("one's own", {"image": PNG_TEXT, "seed": 7}, [("output.image", "image.png", "image/png")]),
    (
        "a list",
        [DATA_URL, PNG_TEXT[:-4] + "AAAA"],
        [("output[0]", "file-0.png", "image/png"), ("output[1]", "file-1.png", "image/png")],
    ),
    (
        "worker-comfyui",
        {"images": [{"filename": "ComfyUI_00001_.png", "type": "base64", "data": PNG_TEXT}]},
        [("output.images[0].data", "ComfyUI_00001_.png", "image/png")],
    ),
    (
        "worker-comfyui with a bucket",
        {"images": [{"filename": "ComfyUI_1.png", "type": "s3_url", "data": "https://s3.example/x/ab12.png?X-Amz=1"}]},
        [("output.images[0].data", "ComfyUI_1.png", "image/png")],
    ),
    ("worker-comfyui 4", {"message": PNG_TEXT, "status": "success"}, [("output.message", "message.png", "image/png")]),
    (
        "worker-sdxl",
        {"image_url": DATA_URL, "images": [DATA_URL], "seed": 42},
        [("output.image_url", "image_url.png", "image/png")],
    ),
    (
        "worker-a1111",
        {"images": ["bm9pc2U="], "parameters": {"prompt": "a cat"}, "info": "AAAA"},
        [("output.images[0]", "images-0", "application/octet-stream")],
    ),
    (
        "worker-vllm-omni, a film",
        {"data_b64": "bm9pc2U=", "content_type": "video/mp4", "size_bytes": 5},
        [("output.data_b64", "data_b64.mp4", "video/mp4")],
    ),
    (
        "worker-vllm-omni, pictures",
        {"created": 1, "data": [{"b64_json": PNG_TEXT}]},
        [("output.data[0].b64_json", "b64_json-0.png", "image/png")],
    ),
    (
        "a public endpoint",
        {"result": "https://cdn.example/a/film%20one.mp4", "cost": 0.1},
        [("output.result", "film_one.mp4", "video/mp4")],
    ),
    ("worker-vllm, a text", [{"choices": [{"tokens": ["a cat"]}], "usage": {"input": 3}}], []),
    ("no file", {"message": "done", "result": "okay", "data": [1, 2], "prompt": DATA_URL, "url": None}, []),
]


@pytest.mark.parametrize(("output", "found"), [row[1:] for row in OUTPUTS], ids=[row[0] for row in OUTPUTS])
def test_the_files_of_the_outputs_of_popular_workers_are_found(output: Any, found: list[tuple[str, str, str]]) -> None:
    assert [(one.where, one.name, one.content_type) for one in files.find(output)] == found


def test_an_output_that_is_a_file_is_read() -> None:
    url_safe = base64.urlsafe_b64encode(b"\xfb\xff\xfe").decode()
    lines = "\n".join(PNG_TEXT[at : at + 76] for at in range(0, len(PNG_TEXT), 76))
    for output in (DATA_URL, PNG_TEXT, lines, PNG_TEXT.rstrip("="), {"image": DATA_URL}, [[{"image": DATA_URL}]]):
        assert files.read(output) == PNG
    assert files.read(url_safe) == b"\xfb\xff\xfe"
    assert files.read("data:,a%20cat") == b"a cat"
    assert files.read("data:;base64,") == b""


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("a cat!", r"output: the text is no base64 \(6 characters\), nor an http\(s\) URL"),
        ("data:image/png;base64,!", "output: the text is no base64"),
        ("data:image/png", "its comma is missing"),
        ({"images": [DATA_URL, PNG_TEXT]}, r"holds 2 files \(output.images\[0\], output.images\[1\]\)"),
        ({"seed": 7, "cost": 1}, "a dict with the fields seed, cost: no file is known in it"),
        ({}, "an empty dict: no file"),
        (None, "a NoneType: no file"),
    ],
)
def test_an_output_that_is_no_file_is_refused(output: Any, text: str) -> None:
    with pytest.raises(errors.FileRefused, match=text):
        files.read(output)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from([DATA_URL, PNG_TEXT]),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["images", "image", "data", "type", "filename", "content_type", "url"]), inner
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_no_output_breaks_the_search(output: Any) -> None:
    for found in files.find(output):
        assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", found.name) and found.where.startswith("output")
        with contextlib.suppress(errors.FileRefused):
            files.read(found)
    with contextlib.suppress(errors.FileRefused):
        files.read(output)


def test_content_over_the_limit_is_refused() -> None:
    with pytest.raises(
        errors.FileRefused, match=r"output.image: it has 2.0 MB, over the limit of 1 MB \(limit_bytes\)"
    ):
        files.read({"image": base64.b64encode(bytes(2_000_000)).decode()}, limit_bytes=1_000_000)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..", "/etc/passwd", "C:\\x\\y.png", ".bashrc", "a\x00b\n.png", "é" * 300]
)
def test_a_name_from_an_output_is_safe_in_a_folder(name: str, tmp_path: Path) -> None:
    [found] = files.find({"images": [{"filename": name, "type": "base64", "data": PNG_TEXT}]})
    assert files.save(found, tmp_path / found.name).parent == tmp_path
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [PNG]


def test_a_file_is_saved_whole_or_not_at_all(tmp_path: Path, server: Server) -> None:
    path = tmp_path / "cat.png"
    assert files.save(DATA_URL, str(path)) == path
    with pytest.raises(errors.FileUnavailable):
        files.save(f"{server.url}/cut", path, allow_http=True, allow_private=True)
    assert [one.name for one in tmp_path.iterdir()] == ["cat.png"]
    assert path.read_bytes() == PNG
    with pytest.raises(FileNotFoundError):
        files.save(DATA_URL, tmp_path / "none" / "cat.png")


# ---------------------------------------------------------------- what is fetched


class Server:
    """A web server on loopback that answers by path, and keeps what it was asked."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        outer = self
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.stored: dict[str, tuple[str, bytes]] = {}
        self.connections = 0

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def log_message(self, *_: Any) -> None:
                pass

            def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
                self.send_response(status)
                for name, value in {"Content_Length": str(len(content)), **headers}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                outer.asked.append(("GET", self.path, dict(self.headers)))
                if path == "/cat.png":
                    self.answer(200, PNG, Content_Type="image/png")
                elif path == "/moved":
                    self.answer(302, Location="/cat.png")
                elif path == "/circle":
                    self.answer(302, Location="/circle")
                elif path == "/inside":
                    self.answer(302, Location="http://10.0.0.1/secret")
                elif path == "/broken":
                    self.answer(302, Location="http://[")
                elif path == "/file":
                    self.answer(302, Location="file:///etc/passwd")
                elif path == "/cut":
                    self.answer(200, PNG, Content_Length="5000")
                    self.close_connection = True
                elif path == "/large":
                    self.answer(200, Content_Length="9000000000")
                elif path == "/endless":
                    self.send_response(200)
                    self.end_headers()
                    self.drip(bytes(65_536), 0)
                elif path == "/slow":
                    self.send_response(200)
                    self.end_headers()
                    self.drip(b"x", 0.05)
                elif path in outer.stored:
                    self.answer(200, outer.stored[path][1], Content_Type=outer.stored[path][0])
                else:
                    self.answer(403, b"<Error>AccessDenied</Error>")

            def drip(self, piece: bytes, pause_s: float) -> None:
                self.close_connection = True
                try:
                    while True:
                        self.wfile.write(piece)
                        time.sleep(pause_s)
                except OSError:
                    outer.asked.append(("left", self.path, {}))

            def do_PUT(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked.append(("PUT", self.path, dict(self.headers)))
                if self.path.startswith("/closed/"):
                    self.answer(403, b"<Error><Code>AccessDenied</Code><Message>No</Message></Error>")
                else:
                    outer.stored[urlsplit(self.path).path] = (self.headers["Content-Type"], content)
                    self.answer(200, ETag='"1"')

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{host}:{self._server.server_address[1]}"
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.close()


HERE = {"allow_http": True, "allow_private": True}


def test_a_url_is_fetched_and_redirects_are_followed(server: Server, tmp_path: Path) -> None:
    for output in (f"{server.url}/cat.png?sig=1", {"image_url": f"{server.url}/moved"}):
        assert files.read(output, **HERE) == PNG
    assert files.save(f"{server.url}/cat.png", tmp_path / "a.png", **HERE).read_bytes() == PNG
    sent = {name.lower() for _, _, headers in server.asked for name in headers}
    assert sent & {"authorization", "cookie"} == set()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://files.example/cat.png?sig=secret", "http://files.example/cat.png is not https; allow_http=True"),
        ("https:///cat.png", "no http"),
        ("https://[::1/cat.png", "no URL"),
        ("https://files.example:port/cat.png", "no URL"),
        ("https://127.0.0.1/x", "127.0.0.1 is no public address; allow_private=True"),
        ("https://169.254.169.254/latest/meta-data", "169.254.169.254 is no public address"),
        ("https://[::ffff:10.0.0.1]/x", "is no public address"),
        ("https://2130706433/x", "127.0.0.1 is no public address"),
        ("https://localhost/x", "is no public address"),
    ],
)
def test_a_url_that_leads_inside_or_in_clear_text_is_refused(url: str, text: str) -> None:
    with pytest.raises(errors.FileRefused) as caught:
        files.read({"image_url": url})
    assert str(caught.value).startswith("output.image_url: ")
    assert text in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        *((one, False) for one in ("10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "0.0.0.0", "224.0.0.1")),
        *(
            (one, False)
            for one in ("::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:192.168.0.1", "2002:0a00:0001::")
        ),
        *((one, False) for one in ("64:ff9b::7f00:1", "2001:0:4136:e378:8000:63bf:f5ff:fffe")),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert fetching.is_public(address) is public


def test_the_connection_is_made_to_an_address_that_was_checked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that has another address at the second lookup would lead inside: the name is looked up once."""
    other, lookups = Server("127.0.0.2"), []

    def addresses(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        lookups.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, other.port)) for one in ("127.0.0.1", "127.0.0.2")]

    monkeypatch.setattr(socket, "getaddrinfo", addresses)
    monkeypatch.setattr(fetching, "is_public", lambda address: address == "127.0.0.2")
    assert files.read("http://files.example/cat.png", allow_http=True) == PNG
    assert (lookups, other.connections, server.connections) == (["files.example"], 1, 0)
    other.close()


def test_each_redirect_is_checked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "is_public", lambda address: address == "127.0.0.1")
    for path, text in (
        ("circle", "more than 5 redirects"),
        ("file", "no http"),
        ("broken", "redirects to what is no URL"),
        ("inside", "10.0.0.1 is no public address"),
    ):
        with pytest.raises(errors.FileRefused, match=text):
            files.read(f"{server.url}/{path}", allow_http=True)


def test_no_proxy_of_the_environment_chooses_the_address(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert files.read(f"{server.url}/cat.png", **HERE) == PNG


def test_a_fetch_is_bounded_in_size(server: Server) -> None:
    for path in ("large", "endless"):
        with pytest.raises(errors.FileRefused, match=r"more than 1 MB, which is the limit \(limit_bytes\)"):
            files.read(f"{server.url}/{path}", limit_bytes=1_000_000, **HERE)
    eventually(lambda: [what for what, path, _ in server.asked if what == "left"], ["left"])


def test_a_fetch_is_bounded_in_time(server: Server) -> None:
    """The server sends a byte at a time, so that no single read is slow."""
    with pytest.raises(errors.FileUnavailable, match="time"):
        files.read(f"{server.url}/slow", timeout=0.5, **HERE)
    with pytest.raises(errors.InvalidOption, match="timeout"):
        files.read(f"{server.url}/slow", timeout=0, **HERE)


def test_a_server_that_does_not_give_the_file_is_named_without_the_signature(server: Server) -> None:
    with pytest.raises(errors.FileUnavailable) as caught:
        files.read(f"{server.url}/gone?X-Amz-Signature=secret", **HERE)
    assert (
        caught.value.status == 403 and str(caught.value) == f"{server.url}/gone: HTTP 403: the server answers Forbidden"
    )
    assert caught.value.__context__ is None
    server.close()
    with pytest.raises(errors.FileUnavailable, match="refused") as caught:
        files.read(f"{server.url}/gone?X-Amz-Signature=secret", **HERE)
    assert "secret" not in repr(caught.value) and caught.value.status is None


# ---------------------------------------------------------------- what is uploaded


def bucket(server: Server, **options: Any) -> files.Bucket:
    given = {"access_key": "AKEXAMPLE", "secret_key": "hush", "prefix": "/inputs/"} | options
    return files.Bucket(given.pop("name", "pictures"), server.url, **given)


def test_a_file_is_uploaded_and_its_url_is_signed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "my cat.png").write_bytes(PNG)
    urls = [files.upload(tmp_path / "my cat.png", bucket(server), expires=600), files.upload(PNG, bucket(server))]
    for url, name, seconds in zip(urls, ("my_cat.png", "file.png"), (600, 86_400), strict=True):
        parts, query = urlsplit(url), parse_qs(urlsplit(url).query)
        assert parts.path.startswith("/pictures/inputs/") and parts.path.endswith(f"/{name}")
        assert query["X-Amz-Expires"] == [str(seconds)] and query["X-Amz-Signature"]
        assert files.read(url, **HERE) == PNG
    assert {kind for kind, _ in server.stored.values()} == {"image/png"}
    assert len(server.stored) == 2 and "hush" not in str(urls) + repr(bucket(server))


def test_an_uploaded_file_of_the_caller_stays_open(server: Server) -> None:
    file = io.BytesIO(PNG)
    assert files.read(files.upload(file, bucket(server), name="a/b.bin"), **HERE) == PNG
    assert not file.closed


def test_a_bucket_that_takes_nothing_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.FileUnavailable) as caught:
        files.upload(PNG, bucket(server, name="closed"))
    assert caught.value.status == 403 and caught.value.url == f"{server.url}/closed"
    assert "did not take the file" in str(caught.value) and "AccessDenied" in str(caught.value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(errors.NotConfigured, match="no credentials for bucket 'pictures'"):
        files.upload(PNG, bucket(server, access_key=None, secret_key=None))


def test_without_boto3_the_extra_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    uploading._client.cache_clear()
    with pytest.raises(errors.MissingExtra, match=r"pip install 'celery-runpod\[s3\]'"):
        files.upload(PNG, bucket(server))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: files.Bucket(""), "the name of a bucket"),
        (lambda: files.Bucket("a", access_key="k"), "both access_key and secret_key, or neither"),
        (lambda: files.Bucket("a", "s3.example"), r"an http\(s\) URL"),
        (lambda: files.upload(PNG, files.Bucket("a"), expires=8 * 86_400), "1 to 604800 seconds"),
        (lambda: files.upload(PNG, "pictures"), r"a files.Bucket, or a storage of Django"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_bucket_is_refused(make: Any, text: str) -> None:
    with pytest.raises(errors.InvalidOption, match=text):
        make()


def test_a_storage_of_django_takes_a_file(tmp_path: Path) -> None:
    if not settings.configured:
        settings.configure()
    storage = FileSystemStorage(tmp_path, base_url="https://media.example/")
    url = files.upload(SimpleUploadedFile("cat.png", PNG), storage)
    assert url.startswith("https://media.example/") and url.endswith("/cat.png")
    assert [path.read_bytes() for path in tmp_path.rglob("cat.png")] == [PNG]
    with pytest.raises(errors.InvalidOption, match="its own setting says how long"):
        files.upload(PNG, storage, expires=60)
    with pytest.raises(errors.InvalidOption, match="a storage whose URLs are absolute: '/media/"):
        files.upload(PNG, FileSystemStorage(tmp_path, base_url="/media/"))
