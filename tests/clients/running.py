"""A running `okra-sync serve` on free ports, with one customer linked at the sandbox bank."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAX_START_S = 60
MAX_REFRESH_S = 60
LOOK_S = 0.05
# What okra_py searches for with byOptions.
OPTIONS = {"first_name": "Ada", "last_name": "Obi"}


def binary():
    """The binary under test: `OKRA_TEST_BINARY`, or one that is built now."""
    given = os.environ.get("OKRA_TEST_BINARY")
    if given:
        return pathlib.Path(given).resolve()
    subprocess.run(["cargo", "build", "--locked", "--bin", "okra-sync"], cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "debug" / "okra-sync"


def free_ports():
    """A port whose two followers are free too."""
    for port in range(21_000 + os.getpid() % 5_000 * 3, 60_000, 3):
        with contextlib.ExitStack() as stack:
            try:
                for n in range(3):
                    listener = stack.enter_context(socket.socket())
                    listener.bind(("127.0.0.1", port + n))
            except OSError:
                continue
            return port
    raise RuntimeError("no free ports")


class Running:
    """The process, its key, and what was linked."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="okra-clients-")
        self.port = free_ports()
        self.log = open(pathlib.Path(self.folder.name) / "log", "w+")
        data = pathlib.Path(self.folder.name) / "data"
        command = [str(binary()), "serve", "--port", str(self.port), "--data", str(data)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        try:
            self.until(self.answers, MAX_START_S)
            self.until((data / "secret-key").exists, MAX_START_S)
            self.key = (data / "secret-key").read_text().strip()
            self.linked = self.post("customers/create", {"name": "Ada Obi", "options": OPTIONS})["data"]
            self.until(self.refreshed, MAX_REFRESH_S)
        except BaseException:
            self.stop()
            raise

    @property
    def base_url(self):
        """As okra_py wants it: with a slash at its end."""
        return f"http://127.0.0.1:{self.port}/v2/"

    def answers(self):
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f"{self.base_url}health", timeout=5) as answer:
                return answer.status == 200
        return False

    def refreshed(self):
        record = {"record": self.linked["record_id"]}
        processes = [self.post("callback", record | {"method": method}) for method in ("BALANCE", "TRANSACTIONS")]
        return all(it["data"]["status"]["process"]["completed"] for it in processes)

    def post(self, path, body):
        request = urllib.request.Request(
            self.base_url + path,
            data=json.dumps(body).encode(),
            headers={"authorization": f"Bearer {self.key}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def until(self, condition, patience_s):
        deadline = time.monotonic() + patience_s
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.log.seek(0)
                raise RuntimeError(f"okra-sync is not ready: {self.log.read()}")
            time.sleep(LOOK_S)

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()
        self.folder.cleanup()
