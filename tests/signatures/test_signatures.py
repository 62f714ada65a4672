"""Webhooks as a receiver gets them, verified by the libraries that receivers use: Standard Webhooks' own
for Python, and for Node where node and npm are at hand. Over the received bytes, from the running binary.

    python -m unittest discover -s tests/signatures -v

`OKRA_TEST_BINARY=file` takes that binary instead of building one. `OKRA_TEST_NODE_FOLDER=folder` is where
`npm install` put package.json's dependencies; scripts/test sees to both.
"""

import base64
import contextlib
import datetime
import http.client
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
import unittest
import unittest.mock

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent

# Far above what anything here takes, also on a busy machine: a hang fails instead of hanging the suite.
PATIENCE_S = 120
TOLERANCE_S = 5 * 60
TOKEN = "t0ken-of-the-receiver"


def build():
    """The binary, built if it was not given."""
    given = os.environ.get("OKRA_TEST_BINARY")
    if given:
        return pathlib.Path(given).resolve()
    subprocess.run(["cargo", "build", "--locked", "--bin", "okra-sync"], cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "debug" / "okra-sync"


def three_free_ports():
    """A port whose two followers are free too."""
    for first in range(20_000 + os.getpid() % 3_000 * 12, 60_000, 3):
        try:
            for port in range(first, first + 3):
                with socket.socket() as listener:
                    listener.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
    raise AssertionError("no three free ports in a row")


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps the headers and the bytes of every webhook, and says yes."""

    daemon_threads = True

    def __init__(self):
        self.arrived = threading.Condition()
        self.webhooks = []
        super().__init__(("127.0.0.1", 0), Hook)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def wait_for(self, record, path):
        """The first two webhooks about a record that came to a path."""
        def found():
            return [it for it in self.webhooks if it["path"] == path and json.loads(it["body"]).get("record") == record]

        with self.arrived:
            there = self.arrived.wait_for(lambda: len(found()) >= 2, PATIENCE_S)
            assert there, f"{len(found())} webhooks about {record} came to {path}"
            return found()[:2]


class Hook(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        webhook = {"path": self.path, "headers": dict(self.headers.items()), "body": body}
        with self.server.arrived:
            self.server.webhooks.append(webhook)
            self.server.arrived.notify_all()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Running:
    """The binary, serving, and its API."""

    def __init__(self, folder):
        self.port = three_free_ports()
        self.folder = pathlib.Path(folder)
        command = [build(), "serve", "--data", folder, "--port", str(self.port)]
        self.output = open(self.folder / "output", "wb")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output)
        deadline = time.monotonic() + PATIENCE_S
        while b"serves on" not in self.printed():
            assert self.process.poll() is None, self.printed().decode()
            assert time.monotonic() < deadline, "it does not start"
            time.sleep(0.05)
        self.key = (self.folder / "secret-key").read_text().strip()

    def printed(self):
        return (self.folder / "output").read_bytes()

    def post(self, path, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        with contextlib.closing(connection):
            connection.request("POST", f"/v2/{path}", json.dumps(body), headers)
            answer = connection.getresponse()
            data = json.loads(answer.read())
        assert answer.status < 300, f"{path} answered {answer.status}: {data}"
        return data["data"]

    def link(self, **more):
        """Links a customer, of whom there is a balance and transactions to tell; the record."""
        customer = {"name": "Ada \u00d2bi", "noOfAccount": 1, "interval": "daily", **more}
        return self.post("sandbox/customers/create", customer)["record_id"]

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.output.close()


class Signatures(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.receiver = Receiver()
        cls.addClassCleanup(cls.receiver.server_close)
        cls.addClassCleanup(cls.receiver.shutdown)
        cls.running = running = Running(cls.folder.name)
        cls.addClassCleanup(running.stop)

        endpoint = {"url": f"{cls.receiver.url}/hook", "token": TOKEN}
        cls.old = running.post("webhooks/set", endpoint)["secret"]
        cls.before = cls.receiver.wait_for(running.link(), "/hook")
        cls.new = running.post("webhooks/set", {**endpoint, "rotate": True})["secret"]
        cls.during = cls.receiver.wait_for(running.link(), "/hook")

    def cases(self):
        """(what it is, webhook, secret, how much later it is looked at, whether it is accepted)"""
        stranger = "whsec_" + base64.b64encode(bytes(24)).decode()
        before, during = self.before[0], self.during[0]

        def changed(webhook, body=None, **headers):
            kept = {name.lower(): value for name, value in webhook["headers"].items()}
            headers = {name.replace("_", "-"): value for name, value in headers.items()}
            return {"headers": kept | headers, "body": webhook["body"] if body is None else body}

        def header(webhook, name):
            return changed(webhook)["headers"][name]

        tampered = during["body"].replace(b'"', b"'", 1)
        cased = {"headers": {name.title(): value for name, value in during["headers"].items()}, "body": during["body"]}
        sent = int(header(during, "webhook-timestamp"))
        one_of_two = header(during, "webhook-signature").split(" ")
        yield from [
            ("before the rotation, its secret", before, self.old, 0, True),
            ("before the rotation, a secret to come", before, self.new, 0, False),
            ("during the rotation, the new secret", during, self.new, 0, True),
            ("during the rotation, the old secret", during, self.old, 0, True),
            ("a stranger's secret", during, stranger, 0, False),
            ("another case of the headers", cased, self.new, 0, True),
            ("four minutes later", during, self.new, TOLERANCE_S - 60, True),
            ("six minutes later", during, self.new, TOLERANCE_S + 60, False),
            ("six minutes too early", during, self.new, -TOLERANCE_S - 60, False),
            ("a changed body", changed(during, body=tampered), self.new, 0, False),
            ("a body cut short", changed(during, body=during["body"][:-1]), self.new, 0, False),
            ("a longer body", changed(during, body=during["body"] + b" "), self.new, 0, False),
            ("no body", changed(during, body=b""), self.new, 0, False),
            ("another body of ours", changed(during, body=before["body"]), self.new, 0, False),
            ("another id", changed(during, webhook_id=header(before, "webhook-id")), self.new, 0, False),
            ("another time", changed(during, webhook_timestamp=str(sent + 1)), self.new, 0, False),
            ("another signature", changed(during, webhook_signature=header(before, "webhook-signature")), self.new, 0, False),
            ("the new signature alone", changed(during, webhook_signature=one_of_two[0]), self.new, 0, True),
            ("the new signature alone, the old secret", changed(during, webhook_signature=one_of_two[0]), self.old, 0, False),
        ]
        for webhook in self.before + self.during:
            yield ("every webhook", webhook, self.old, 0, True)

    def test_pythons_library_verifies_what_is_ours_and_nothing_else(self):
        for what, webhook, secret, later_s, accepted in self.cases():
            with self.subTest(what):
                self.assertEqual(accepts(webhook, secret, later_s), accepted)

    def test_nodes_library_verifies_what_is_ours_and_nothing_else(self):
        folder = os.environ.get("OKRA_TEST_NODE_FOLDER")
        if not shutil.which("node") or not folder:
            print("skipped: no node, or its library is not installed")
            self.skipTest("no node")
        cases = list(self.cases())
        asked = [
            {
                "secret": secret,
                # Node's own servers lower the case of headers before anybody sees them.
                "headers": {name.lower(): value for name, value in webhook["headers"].items()},
                "body": base64.b64encode(webhook["body"]).decode(),
                "later_s": later_s,
            }
            for _, webhook, secret, later_s, _ in cases
        ]
        file = pathlib.Path(self.folder.name) / "cases.json"
        file.write_text(json.dumps(asked))
        run = subprocess.run(
            ["node", HERE / "verify.mjs", file], stdout=subprocess.PIPE, check=True, timeout=PATIENCE_S
        )
        for (what, *_, accepted), answer in zip(cases, json.loads(run.stdout), strict=True):
            with self.subTest(what):
                self.assertEqual(answer, accepted)

    def test_what_is_signed_is_what_the_strictest_verifier_reads(self):
        for webhook in self.before + self.during:
            headers = {name.lower(): value for name, value in webhook["headers"].items()}
            body = json.loads(webhook["body"].decode("utf-8"))
            self.assertEqual(headers["webhook-id"], body["event_id"])
            self.assertNotIn(".", headers["webhook-id"])
            self.assertRegex(headers["webhook-signature"], r"\Av1,[A-Za-z0-9+/=]{44}( v1,[A-Za-z0-9+/=]{44})?\Z")
            self.assertEqual(headers["authorization"], f"Bearer {TOKEN}")
            self.assertEqual(headers["content-type"], "application/json")
        signatures = [len(webhook["headers"]["webhook-signature"].split(" ")) for webhook in self.before + self.during]
        self.assertEqual(signatures, [1, 1, 2, 2])

    def test_a_url_of_data_sync_is_signed_with_the_apps_secret(self):
        secret = self.running.post("webhooks/secret", {})["secret"]
        record = self.running.link(webhook_url=f"{self.receiver.url}/sync")
        for webhook in self.receiver.wait_for(record, "/sync"):
            self.assertTrue(accepts(webhook, secret))
            self.assertFalse(accepts(webhook, self.new))

    def test_nothing_secret_is_printed(self):
        printed = self.running.printed()
        for secret in (self.old, self.new, TOKEN):
            self.assertNotIn(secret.encode(), printed)


def accepts(webhook, secret, later_s=0):
    """Whether Python's library accepts a webhook that is looked at so much later."""

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime.now(tz) + datetime.timedelta(seconds=later_s)

    with unittest.mock.patch("standardwebhooks.webhooks.datetime", Later):
        try:
            Webhook(secret).verify(webhook["body"], webhook["headers"])
            return True
        except WebhookVerificationError:
            return False


if __name__ == "__main__":
    unittest.main()
