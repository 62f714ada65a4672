"""The local process under test, a server for pages that embed the widget, and a browser."""

import functools
import http.server
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
START_SECONDS = 60
PATIENCE_SECONDS = 30


def chromium():
    return shutil.which("chromium") or shutil.which("chromium-browser")


def binary():
    named = os.environ.get("OKRA_TEST_BINARY")
    if named:
        return named
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    return str(pathlib.Path(target) / "debug" / "okra-sync")


def free_ports():
    """The first of three free ports in a row."""
    for _ in range(100):
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        if port > 65000:
            continue
        try:
            for other in (port, port + 1, port + 2):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", other))
        except OSError:
            continue
        return port
    raise RuntimeError("no three free ports in a row")


def eventually(what, look):
    """What `look` gives once it gives something."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {PATIENCE_SECONDS} s")


class System:
    """`okra-sync` with its demo app, in a folder of its own."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="okra-browser-"))
        self.port = free_ports()
        self.log = open(self.folder / "log", "wb")
        command = [binary(), "--port", str(self.port), "--data", str(self.folder / "data")]
        self.process = subprocess.Popen(
            command, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL
        )
        demo = self.folder / "data" / "demo.json"
        end = time.monotonic() + START_SECONDS
        while not demo.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.folder / "log").read_text())
            time.sleep(0.1)
        self.demo = json.loads(demo.read_text())
        self.key = self.demo["secret_key"]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def bank(self):
        return f"http://127.0.0.1:{self.port + 1}"

    def post(self, path, body):
        return self._call(f"{self.url}/v2/{path}", "POST", body)["data"]

    def try_post(self, path, body):
        """Posts what may be refused."""
        try:
            self.post(path, body)
        except AssertionError:
            pass

    def control(self, method, path, body=None):
        """Plays the sandbox bank."""
        return self._call(f"{self.bank}/control/{path}", method, body)

    def _call(self, url, method, body):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, method=method)
        request.add_header("authorization", f"Bearer {self.key}")
        request.add_header("content-type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
        except urllib.error.HTTPError as refused:
            raise AssertionError(f"{url}: {refused.code} {refused.read()!r}") from refused
        return json.loads(text) if text else None

    def webhooks(self):
        """What the demo app's receiver was told, verified and in the order of arrival."""
        kept = self.folder / "data" / "received.jsonl"
        return [json.loads(line) for line in kept.read_text().splitlines() if line.endswith("}")]

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)
        self.log.close()
        shutil.rmtree(self.folder)


class Pages:
    """Pages of the app, on an origin of their own."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="okra-pages-"))

        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def end_headers(self):
                # A page written twice within a second has the same Last-Modified: a browser would keep the first.
                self.send_header("Cache-Control", "no-store")
                super().end_headers()

        handler = functools.partial(Quiet, directory=str(self.folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def write(self, name, text):
        (self.folder / name).write_text(text)

    def url(self, name, host="localhost"):
        return f"http://{host}:{self.port}/{name}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        shutil.rmtree(self.folder)
