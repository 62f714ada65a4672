"""The OpenAPI document: valid as the specification has it, and kept by what is served.

    python -m unittest discover -s tests/schema -v
"""

import json
import pathlib
import subprocess
import sys
import unittest

from openapi_spec_validator import OpenAPIV31SpecValidator

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "shared" / "api" / "openapi.json"
sys.path.insert(0, str(ROOT / "tests" / "clients"))

from running import Running  # noqa: E402

SEED = 20261125
EXAMPLES = 4
MAX_S = 600
# What the document says of answers. Input is read tolerantly on purpose, so that what is not in the
# document is not refused; and what is there is fuzzed with ids that nobody has.
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# Not called: what changes the installation for the calls after it.
LEFT_OUT = "/customers/(create|generate|remove)|/banks/add|/keys/.*"


class Document(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.document = json.loads(DOCUMENT.read_text())

    def operations(self):
        for path, methods in self.document["paths"].items():
            for method, operation in methods.items():
                yield f"{method.upper()} {path}", operation

    def test_it_is_valid(self):
        self.assertEqual(list(OpenAPIV31SpecValidator(self.document).iter_errors()), [])

    def test_every_operation_says_what_it_is(self):
        tags = {tag["name"] for tag in self.document["tags"]}
        ids = [operation["operationId"] for _, operation in self.operations()]
        self.assertEqual(len(ids), len(set(ids)))
        for name, operation in self.operations():
            with self.subTest(name):
                self.assertIsInstance(operation["x-okra"], bool)
                self.assertTrue(operation["summary"].endswith("."))
                self.assertLessEqual(set(operation["tags"]), tags)
                self.assertLessEqual({"200", "4XX", "5XX"}, set(operation["responses"]))

    def test_every_schema_is_used(self):
        text = DOCUMENT.read_text()
        for name in self.document["components"]["schemas"]:
            self.assertIn(f'"#/components/schemas/{name}"', text)

    def test_what_is_served_keeps_it(self):
        running = Running()
        try:
            command = [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{running.base_url}openapi.json"),
                *("--url", running.base_url.rstrip("/"), "--header", f"Authorization: Bearer {running.key}"),
                *("--checks", CHECKS, "--mode", "all", "--phases", "examples,coverage,fuzzing,stateful"),
                *("--max-examples", str(EXAMPLES), "--seed", str(SEED), "--exclude-path-regex", LEFT_OUT),
                *("--generation-database", "none", "--no-color"),
            ]
            run = subprocess.run(command, capture_output=True, text=True, timeout=MAX_S, cwd=running.folder.name)
        finally:
            running.stop()
        self.assertEqual(run.returncode, 0, run.stdout[-20_000:] + run.stderr)
