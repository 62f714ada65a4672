"""The licences, bans and sources of deny.toml hold for every crate that Cargo.lock resolves to.

The same file is read by cargo-deny, which also knows advisories; this needs nothing but cargo.

    python -m unittest discover -s tests/policy
"""

import json
import pathlib
import re
import subprocess
import tomllib
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DENY = tomllib.loads((ROOT / "deny.toml").read_text())


def packages():
    command = ["cargo", "metadata", "--format-version", "1", "--all-features", "--locked"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)["packages"]


def permitted(expression, allowed):
    """Whether an SPDX licence expression can be met with the allowed licences alone."""
    tokens = re.findall(r"[()/]|[\w.+-]+", expression)

    def peek():
        return tokens[0] if tokens else None

    def any_of():
        met = all_of()
        while peek() in ("OR", "/"):
            tokens.pop(0)
            met = all_of() or met
        return met

    def all_of():
        met = one()
        while peek() == "AND":
            tokens.pop(0)
            met = one() and met
        return met

    def one():
        token = tokens.pop(0)
        if token == "(":
            met = any_of()
            if tokens.pop(0) != ")":
                raise ValueError(expression)
            return met
        if peek() == "WITH":
            token = f"{token} {tokens.pop(0)} {tokens.pop(0)}"
        return token in allowed

    met = any_of()
    if tokens:
        raise ValueError(expression)
    return met


def banned(package, ban):
    """Whether a package is what a ban (`name` or `name@<version`) names."""
    name, _, requirement = ban["crate"].partition("@")
    if package["name"] != name:
        return False
    if not requirement:
        return True
    below = re.fullmatch(r"<(\d+(?:\.\d+)*)", requirement)
    if not below:
        raise ValueError(f"{requirement}: only <version is understood here")
    limit = [int(part) for part in below[1].split(".")]
    version = [int(part) for part in re.split(r"[-+]", package["version"])[0].split(".")]
    return version[: len(limit)] < limit


class Rules(unittest.TestCase):
    """The rules themselves are understood."""

    def test_licence_expressions(self):
        allowed = {"MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"}
        for expression, expected in {
            "MIT": True,
            "GPL-3.0-only": False,
            "MIT OR GPL-3.0-only": True,
            "GPL-3.0-only OR MIT": True,
            "MIT/Apache-2.0": True,
            "MIT AND GPL-3.0-only": False,
            "(MIT OR GPL-3.0-only) AND Unicode-3.0": True,
            "MIT OR Apache-2.0 AND GPL-3.0-only": True,
            "Apache-2.0 WITH LLVM-exception": True,
            "Apache-2.0 WITH Other-exception": False,
        }.items():
            self.assertIs(permitted(expression, allowed), expected, expression)

    def test_bans(self):
        for name, version, ban, expected in [
            ("hyper", "0.14.32", "hyper@<1", True),
            ("hyper", "1.6.0", "hyper@<1", False),
            ("rustls", "0.21.12", "rustls@<0.23", True),
            ("rustls", "0.23.35", "rustls@<0.23", False),
            ("openssl", "0.10.1", "openssl", True),
            ("openssl-probe", "0.1.6", "openssl", False),
        ]:
            self.assertIs(banned({"name": name, "version": version}, {"crate": ban}), expected, (name, version, ban))


class Dependencies(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.packages = packages()
        cls.foreign = [p for p in cls.packages if p["source"]]

    def test_licences(self):
        allowed = set(DENY["licenses"]["allow"])
        refused = {
            f"{p['name']} {p['version']}": p["license"]
            for p in self.packages
            if not p["license"] or not permitted(p["license"], allowed)
        }
        self.assertEqual(refused, {})

    def test_bans(self):
        found = {
            f"{p['name']} {p['version']}": ban["reason"]
            for p in self.packages
            for ban in DENY["bans"]["deny"]
            if banned(p, ban)
        }
        self.assertEqual(found, {})

    def test_sources(self):
        sources = {p["source"] for p in self.foreign}
        self.assertLessEqual(len(sources), 1, "one registry")
        self.assertTrue(all(source.startswith("registry+") for source in sources), sources)

    def test_every_requirement_says_a_version(self):
        loose = {
            f"{p['name']} -> {d['name']}"
            for p in self.packages
            if not p["source"]
            for d in p["dependencies"]
            if d["req"] == "*" and not d.get("path")
        }
        self.assertEqual(loose, set())


if __name__ == "__main__":
    unittest.main()
