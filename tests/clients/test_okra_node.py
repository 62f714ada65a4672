"""okra-node 0.1.17 and 0.2.0, unmodified, against the local process.

Their host is fixed in their code; a proxy's address leads them here, and they send absolute-form targets.

    python -m unittest discover -s tests/clients -v
"""

import json
import os
import pathlib
import shutil
import subprocess
import unittest

from running import Running

HERE = pathlib.Path(__file__).resolve().parent
FOLDER = os.environ.get("OKRA_TEST_NODE_CLIENTS")
MAX_RUN_S = 120


@unittest.skipUnless(FOLDER and shutil.which("node"), "skipped: no node, or OKRA_TEST_NODE_CLIENTS names no folder with okra-node")
class OkraNode(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.running = Running()
        linked = cls.running.linked
        cls.account = linked["accounts"][0]["id"]
        cls.customer, cls.record, cls.bank = linked["customer_id"], linked["record_id"], linked["bank_id"]
        rows = cls.running.post("transactions/getByAccount", {"account": cls.account})["data"]["transaction"]
        cls.rows = rows
        proxy = f"http://127.0.0.1:{cls.running.port}"
        given = (FOLDER, cls.running.key, cls.customer, cls.record, cls.account, cls.bank, rows[0]["_id"])
        ran = subprocess.run(
            ["node", str(HERE / "okra_node.mjs"), *given],
            env={"PATH": os.environ["PATH"], "https_proxy": proxy, "HTTPS_PROXY": proxy},
            capture_output=True, text=True, timeout=MAX_RUN_S,
        )
        if ran.returncode:
            cls.running.stop()
            raise AssertionError(ran.stderr)
        cls.results = json.loads(ran.stdout.splitlines()[-1])  # The client prints too.

    @classmethod
    def tearDownClass(cls):
        cls.running.stop()

    def data(self, name):
        result = self.results[name]
        self.assertNotIn("error", result, name)
        self.assertIsInstance(result["data"], dict, name)
        return result["data"]

    def test_every_call_in_scope_is_answered(self):
        out_of_scope = {"0.1 getIdentityByCustomer", "0.1 wrong key", "0.2 a refusal"}
        for name in self.results.keys() - out_of_scope:
            with self.subTest(name):
                self.data(name)
        self.assertGreater(len(self.results), 40)

    def test_lists_hold_what_is_there(self):
        for call, key in (
            ("getAuthByCustomer", "auths"), ("getBalanceByCustomer", "balance"), ("getAccountByCustomer", "account"),
            ("getBalanceByAccount", "balance"), ("getBalanceByDate", "balance"), ("getBalanceById", "balance"),
            ("getBalanceByCustomerDate", "balance"), ("getAuthByBank", "auths"), ("getAccountByBank", "account"),
            ("getAuth", "auths"), ("getBalances", "balances"), ("getAccounts", "accounts"),
        ):
            with self.subTest(call):
                rows = self.data(f"0.1 {call}")[key]
                self.assertEqual(len(rows), 1)
                self.assertIn("id" if call.startswith("get") and "_id" not in rows[0] else "_id", rows[0])
        for call in ("getTransactionByCustomer", "getTransactionByAccount", "getTransactionByDate", "getTransactionByRecord",
                     "getTransactionByBank", "getTransactionByCustomerDate"):
            with self.subTest(call):
                self.assertEqual(self.data(f"0.1 {call}")["transaction"], self.rows)
        self.assertEqual(self.data("0.1 getTransactionById")["transaction"], self.rows[:1])

    def test_balances_are_numbers_and_lists_are_lists(self):
        (balance,) = self.data("0.1 getBalanceByCustomer")["balance"]
        self.assertEqual(balance["account"]["_id"], self.account)
        self.assertEqual(balance["customer"]["_id"], self.customer)
        self.assertEqual(balance["record"], [self.record])
        self.assertEqual(balance["connected"], [])
        self.assertIsInstance(balance["available_balance"], (int, float))
        (listed,) = self.data("0.1 getBalances")["balances"]
        self.assertIs(listed["connected"], True)

    def test_refreshes_are_acknowledged(self):
        for name in ("0.1 refreshBalance", "0.1 checkBalance", "0.1 getPeriodicBalance", "0.2 a refresh"):
            with self.subTest(name):
                data = self.data(name)
                self.assertEqual(data["record"], self.record)
                self.assertIn(f"/v2/callback?record={self.record}&method=", data["callback_url"])

    def test_version_two_pages_one_by_one(self):
        page, following = self.data("0.2 transactions of a customer"), self.data("0.2 the next page")
        self.assertEqual([len(it["transaction"]) for it in (page, following)], [1, 1])
        self.assertEqual(page["transaction"] + following["transaction"], self.rows[:2])
        self.assertEqual((page["pagination"]["nextPage"], following["pagination"]["prevPage"]), (2, 1))
        self.assertEqual(self.data("0.2 customers")["customers"][0]["_id"], self.customer)

    def test_refusals_are_read(self):
        for name, kind in (("0.1 wrong key", "API"), ("0.1 getIdentityByCustomer", "NOT_IMPLEMENTED"), ("0.2 a refusal", "NOT_FOUND")):
            with self.subTest(name):
                error = self.results[name]["error"]
                self.assertEqual((error["status"], error["data"]["type"]), ("error", kind))


if __name__ == "__main__":
    unittest.main()
