"""A real browser without a display, driven over its DevTools pipe:
where Debian's package `chromium` is installed.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

BINARY = shutil.which("chromium") or shutil.which("chromium-browser") or ""
LOWEST = 10
"""File descriptors from here on are ours; the browser reads 3 and writes 4."""


class Tab:
    """One page in a browser.

    Attributes:
        requests: addresses that it asked for, since it was opened.
        problems: what the page's policy refused, and exceptions of scripts.
    """

    def __init__(self, reader: Any, writer: Any) -> None:
        self.reader, self.writer, self.last, self.session = reader, writer, 0, ""
        self.requests: list[str] = []
        self.problems: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for part in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{part}.enable")

    def call(self, name: str, **values: Any) -> dict[str, Any]:
        """One command, and its answer; what happens meanwhile is noted."""
        self.last += 1
        message = {"id": self.last, "method": name, "params": values}
        if self.session:
            message["sessionId"] = self.session
        self.writer.write(json.dumps(message).encode() + b"\0")
        self.writer.flush()
        while (found := self._read()).get("id") != self.last:
            self._note(found)
        if "error" in found:
            raise RuntimeError(f"{name}: {found['error']}")
        return found["result"]

    def _read(self) -> dict[str, Any]:
        content = bytearray()
        while (byte := self.reader.read(1)) not in (b"\0", b""):
            content += byte
        return json.loads(content)

    def _note(self, event: dict[str, Any]) -> None:
        values = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"])
        elif event.get("method") == "Log.entryAdded" and values["entry"]["level"] in (
            "error",
            "warning",
        ):
            self.problems.append(values["entry"]["text"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(values["exceptionDetails"]))

    def look(self, width: int, *, dark: bool = False, height: int = 900) -> None:
        """How wide the window is, and whether its user likes it dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, path: Path) -> None:
        """Go to a file, until it is loaded."""
        self.requests.clear()
        self.problems.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.run(
            "new Promise(done => document.readyState === 'complete' ? done() :"
            " addEventListener('load', done))"
        )

    def run(self, script: str) -> Any:
        """The value of an expression in the page, of a promise when it is kept."""
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def click(self, x: float, y: float) -> None:
        """A click of the mouse."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def point(self, x: float, y: float) -> None:
        """Move the mouse there."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def picture(self, *, whole: bool = False) -> bytes:
        """A PNG of the window, or of the whole page."""
        return base64.b64decode(
            self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        )

    def paper(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])


@contextmanager
def browser() -> Iterator[Tab]:
    """A browser with one tab, which nothing outlives."""
    inside, outside = os.pipe(), os.pipe()
    ours = [fcntl.fcntl(end, fcntl.F_DUPFD, LOWEST) for end in (inside[0], outside[1])]
    os.close(inside[0])
    os.close(outside[1])
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--remote-debugging-pipe",
            "--no-first-run",
            "--disable-dev-shm-usage",
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        start = f'exec "$0" "$@" 3<&{ours[0]} 4>&{ours[1]}'
        process = subprocess.Popen(
            ["bash", "-c", start, BINARY, *flags],
            pass_fds=ours,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in ours:
            os.close(end)
        try:
            with os.fdopen(outside[0], "rb") as reader, os.fdopen(inside[1], "wb") as writer:
                yield Tab(reader, writer)
        finally:
            process.terminate()
            process.wait(timeout=20)
