"""The functions as they are deployed: built by cargo-lambda, run by Lambda's Runtime Interface Emulator
against an independent DynamoDB, SQS and EventBridge (moto), each given real events.

    python -m unittest discover -s tests/lambda -v

`OKRA_TEST_BOOTSTRAPS=folder` takes `folder/<name>/bootstrap` instead of building.
"""

import base64
import contextlib
import datetime
import http.client
import importlib.resources
import io
import json
import logging
import os
import pathlib
import platform
import re
import socket
import subprocess
import tempfile
import time
import unittest
import zipfile

import boto3
from moto.server import ThreadedMotoServer
from samcli.yamlhelper import yaml_parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEMPLATE = yaml_parse((ROOT / "template.yaml").read_text())
MACHINE = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine()]
NAMES = ("fetch", "deliver", "api")
REGION = "eu-west-1"
PREFIX = "okra-test"

# 3 MB as Lambda counts its own limits, in units of 1,048,576 bytes; three quarters of a one more for the
# function that also serves the dashboard, the widget and the reference.
MAX_ZIP_BYTES = {"fetch": 3 * 1024 * 1024, "deliver": 3 * 1024 * 1024, "api": 15 * 256 * 1024}
# Far above what an invocation takes, also on a busy machine: a hang fails instead of hanging the suite.
MAX_INVOCATION_S = 60
MAX_START_S = 20


def build():
    """Builds the functions for this machine; the folder of `<name>/bootstrap`."""
    given = os.environ.get("OKRA_TEST_BOOTSTRAPS")
    if given:
        return pathlib.Path(given).resolve()
    flag = {"x86_64": "--x86-64", "arm64": "--arm64"}[MACHINE]
    packages = [part for name in NAMES for part in ("--package", f"okra-function-{name}")]
    subprocess.run(["cargo", "lambda", "build", "--release", "--locked", flag, *packages], cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "lambda"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def create_cloud(endpoint):
    """Makes what the template declares and the functions use; their environment."""
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    dynamodb, sqs, events = (session.client(s, endpoint_url=endpoint) for s in ("dynamodb", "sqs", "events"))
    table = TEMPLATE["Resources"]["Table"]["Properties"]
    shape = {key: table[key] for key in ("AttributeDefinitions", "KeySchema", "BillingMode")}
    dynamodb.create_table(TableName=PREFIX, **shape)
    for resource in TEMPLATE["Resources"].values():
        if resource["Type"] == "AWS::Events::Rule":
            name = resource["Properties"]["Name"]["Fn::Sub"].replace("${AWS::StackName}", PREFIX)
            events.put_rule(Name=name, ScheduleExpression=resource["Properties"]["ScheduleExpression"])

    def queue(name):
        return sqs.create_queue(QueueName=f"{PREFIX}-{name}")["QueueUrl"]

    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": endpoint,
        "TABLE_NAME": PREFIX,
        "FETCH_QUEUE_URL": queue("fetch"),
        "PRIORITY_QUEUE_URL": queue("priority"),
        "DELIVER_QUEUE_URL": queue("deliver"),
        "OKRA_VAULT_KEY": base64.b64encode(bytes(range(32))).decode(),
        "PUBLIC_URL": "https://okra.example",
        "RULE_PREFIX": PREFIX,
        "DELIVER_CONCURRENCY": "32",
        "RUST_LOG": "info",
    }


class Function:
    """A bootstrap under the Runtime Interface Emulator."""

    def __init__(self, bootstrap, environment, log):
        self.log = log
        self.port = free_port()
        emulator = importlib.resources.files("samcli.local.rapid") / f"aws-lambda-rie-{MACHINE}"
        os.chmod(emulator, 0o755)
        command = [str(emulator), "--runtime-interface-emulator-address", f"127.0.0.1:{self.port}"]
        command += ["--runtime-api-address", f"127.0.0.1:{free_port()}", "--log-level", "info", str(bootstrap)]
        system = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        limits = {"AWS_LAMBDA_FUNCTION_TIMEOUT": "30", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256"}
        self.process = subprocess.Popen(
            command, env=system | limits | environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        self.wait_for_port()

    def wait_for_port(self):
        deadline = time.monotonic() + MAX_START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise RuntimeError(f"the emulator did not start: {self.output()}")

    def invoke(self, event):
        return json.loads(self.post(event))

    def post(self, event):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=MAX_INVOCATION_S)
        with contextlib.closing(connection):
            connection.request("POST", "/2015-03-31/functions/function/invocations", json.dumps(event))
            return connection.getresponse().read()

    def output(self):
        self.log.flush()
        return pathlib.Path(self.log.name).read_text(errors="replace")

    def init_ms(self):
        found = re.search(r"INIT REPORT\(durationMs: ([\d.]+)", self.output())
        return float(found[1]) if found else None

    def peak_mb(self):
        """The most memory that the bootstrap, the emulator's child, has had resident."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/children")
        peaks = [
            int(re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{child}/status").read_text())[1])
            for path in children
            for child in path.read_text().split()
        ]
        return max(peaks, default=0) / 1000

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def sample(name):
    return json.loads((ROOT / "tests/events" / f"{name}.json").read_text())


def now():
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Bootstraps(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = build()
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        cls.cloud = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        cls.cloud.start()
        cls.addClassCleanup(cls.cloud.stop)
        host, port = cls.cloud.get_host_and_port()
        cls.environment = create_cloud(f"http://{host}:{port}")

    def start(self, name, **changes):
        log = self.enterContext(tempfile.NamedTemporaryFile("w+", suffix=f"-{name}.log"))
        function = Function(self.folder / name / "bootstrap", self.environment | changes, log)
        self.addCleanup(function.stop)
        return function

    def answers(self, name, *events):
        """What a function answers to some events, the first of them cold; says what that took."""
        function = self.start(name)
        answers = [function.invoke(event) for event in events]
        for event, answer in zip(events, answers, strict=True):
            self.assertIsInstance(answer, dict, function.output())
            self.assertNotIn("errorType", answer, f"{event}\n{function.output()}")
        init = function.init_ms()
        print(f"\n{name}: init {init} ms, peak {function.peak_mb():.1f} MB resident")
        self.assertIsNotNone(init, function.output())
        return answers

    def test_each_zip_is_small(self):
        for name in NAMES:
            with self.subTest(name):
                bootstrap = self.folder / name / "bootstrap"
                packed = io.BytesIO()
                with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
                    archive.write(bootstrap, "bootstrap")
                size = packed.getbuffer().nbytes
                print(f"\n{name}: {bootstrap.stat().st_size / 1e6:.2f} MB, {size / 1e6:.2f} MB zipped")
                self.assertLessEqual(size, MAX_ZIP_BYTES[name])

    def test_fetch_takes_ticks_and_chunks(self):
        tick, chunk = self.answers("fetch", sample("tick") | {"at": now()}, sample("fetch-chunk"))
        self.assertEqual(tick["due"], 0)
        self.assertEqual(chunk, {"batchItemFailures": []})

    def test_fetch_hands_back_what_it_cannot_read(self):
        broken = sample("fetch-chunk")
        broken["Records"][0]["body"] = "{}"
        [answer] = self.answers("fetch", broken)
        failed = [{"itemIdentifier": broken["Records"][0]["messageId"]}]
        self.assertEqual(answer, {"batchItemFailures": failed})

    def test_deliver_takes_sweeps_and_dispatches(self):
        sweep, dispatch = self.answers("deliver", {"sweep": now()}, sample("deliver-dispatch"))
        self.assertNotIn("batchItemFailures", sweep)
        self.assertEqual(dispatch, {"batchItemFailures": []})

    def test_api_answers_in_okras_envelope(self):
        health, unauthorised, unknown_key = self.answers(
            "api", sample("api-health"), sample("api-unauthorised"), sample("api-balance-by-customer")
        )
        self.assertEqual(health["statusCode"], 200)
        self.assertEqual(json.loads(health["body"])["status"], "success")
        for refused in (unauthorised, unknown_key):
            self.assertEqual(refused["statusCode"], 401)
            self.assertEqual(json.loads(refused["body"])["status"], "error")

    def test_api_serves_the_dashboard_and_the_widget(self):
        def get(path, query=""):
            event = sample("api-health")
            event["requestContext"]["http"]["path"] = event["rawPath"] = path
            return event | {"rawQueryString": query}

        dashboard, form, bundle, frame = self.answers(
            "api", get("/dashboard"), get("/dashboard/sign-in"), get("/v2/bundle.js"), get("/", "isIframe=true")
        )
        self.assertEqual(dashboard["statusCode"], 303)
        self.assertEqual(dashboard["headers"]["location"], "/dashboard/sign-in?next=%2Fdashboard")
        self.assertIn("Sign in to okra-sync", form["body"])
        [cookie] = form["cookies"]
        self.assertIn("HttpOnly; SameSite=Strict", cookie)
        self.assertIn("Secure", cookie)
        self.assertIn("buildWithOptions", bundle["body"])
        self.assertIn("frame-ancestors", frame["headers"]["content-security-policy"])
        style = re.search(r"/assets/widget\.[0-9a-f]{16}\.css", frame["body"])[0]
        [asset] = self.answers("api", get(style))
        self.assertEqual(asset["headers"]["cache-control"], "public, max-age=31536000, immutable")

    def test_a_missing_variable_is_named(self):
        function = self.start("fetch", TABLE_NAME="")
        function.post(sample("tick"))
        self.assertIn("TABLE_NAME", function.output())


if __name__ == "__main__":
    unittest.main()
