"""A headless Chromium, driven over its DevTools protocol: for the tests of pages."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from tests.waiting import eventually

ANSWER_S = 30.0


def chromium() -> str | None:
    """The path of a Chromium; None where none is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """One tab, as a context manager."""

    def __init__(self, folder: Path, size: tuple[int, int] = (1000, 760)) -> None:
        self._folder = folder / "chromium"
        self._size = size
        self._loop = asyncio.new_event_loop()
        self._ids = itertools.count(1)

    def __enter__(self) -> Self:
        command = chromium()
        assert command is not None
        self._folder.mkdir()
        options = ["--headless=new", "--remote-debugging-port=0", f"--user-data-dir={self._folder}", "--disable-gpu"]
        options += ["--no-first-run", "--disable-dev-shm-usage", f"--window-size={self._size[0]},{self._size[1]}"]
        if os.geteuid() == 0:
            options.append("--no-sandbox")  # Chromium refuses root with its sandbox
        self._process = subprocess.Popen(
            [command, *options, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            port_file = self._folder / "DevToolsActivePort"
            eventually(lambda: port_file.exists() and port_file.read_text().count("\n") > 0, True, within_s=60)
            self._run(self._connect(port_file.read_text().split()[0]))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._end()

    def go(self, url: str) -> None:
        """Open a page, and wait until it is loaded."""
        self._send("Page.navigate", url=url)
        eventually(lambda: self.js("document.readyState"), "complete")

    def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = self._send("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    def text(self) -> str:
        """What the page shows."""
        return str(self.js("document.body ? document.body.innerText : ''"))

    def screenshot(self, file: Path) -> None:
        """A picture of the page, as a PNG file."""
        file.write_bytes(base64.b64decode(self._send("Page.captureScreenshot", format="png")["data"]))

    async def _connect(self, port: str) -> None:
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            [page] = [one for one in await answer.json() if one["type"] == "page"]
        self._socket = await self._session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0)

    def _send(self, method: str, **params: Any) -> Any:
        return self._run(self._ask(method, params))

    async def _ask(self, method: str, params: dict[str, Any]) -> Any:
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            answer = await self._socket.receive_json(timeout=ANSWER_S)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _run(self, what: Any) -> Any:
        return self._loop.run_until_complete(what)

    def _end(self) -> None:
        if hasattr(self, "_session"):
            self._run(self._session.close())
        self._loop.close()
        self._process.kill()
        self._process.wait()
