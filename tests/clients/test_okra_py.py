"""okra_py 1.1, unmodified, against the local process: only `base_url` is another.

    python -m unittest discover -s tests/clients -v
"""

import re
import unittest

from okra_py.auth import Okra_Auth
from okra_py.balance import Okra_Balance
from okra_py.transaction import OkraTransaction

from running import OPTIONS, Running

ID = re.compile(r"[0-9a-f]{24}")
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
EVER = ("2020-4-02", "2035/12/31")
NEVER = ("2010-01-01", "2010-01-02")


def setUpModule():
    global running, auth, balance, transaction
    running = Running()
    auth, balance, transaction = (
        client(token=running.key, base_url=running.base_url) for client in (Okra_Auth, Okra_Balance, OkraTransaction)
    )


def tearDownModule():
    running.stop()


class OkraPy(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        linked = running.linked
        self.customer, self.record = linked["customer_id"], linked["record_id"]
        self.bank, self.account = linked["bank_id"], linked["accounts"][0]

    def data(self, response, message):
        self.assertEqual(response.status_code, 200, response.text)
        self.assertRegex(response.headers["x-request-id"], ID)
        body = response.json()
        self.assertEqual(set(body), {"status", "message", "data"})
        self.assertEqual((body["status"], body["message"]), ("success", message))
        self.assertIsInstance(body["data"], dict)
        return body["data"]

    def refused(self, response, status, kind, message):
        self.assertEqual(response.status_code, status, response.text)
        body = response.json()
        self.assertEqual(body["status"], "error")
        self.assertEqual(body["data"]["type"], kind)
        self.assertIn(message, body["message"])
        self.assertEqual(body["request_id"], response.headers["x-request-id"])

    def check_pagination(self, pagination, total, limit=20, page=1):
        pages = max(1, -(-total // limit))
        self.assertEqual(
            pagination,
            {
                "totalDocs": total,
                "limit": limit,
                "hasPrevPage": page > 1,
                "hasNextPage": page < pages,
                "page": page,
                "totalPages": pages,
                "pagingCounter": (page - 1) * limit + 1,
                "prevPage": page - 1 if page > 1 else None,
                "nextPage": page + 1 if page < pages else None,
            },
        )

    def check_times(self, resource):
        for name in ("created_at", "last_updated"):
            self.assertRegex(resource[name], f"^{INSTANT.pattern}$")

    def check_number(self, number):
        self.assertIsInstance(number, (int, float))
        if isinstance(number, float):
            self.assertFalse(number.is_integer(), f"{number} has an idle fraction")
            self.assertEqual(round(number, 2), number)

    def check_balance(self, shown):
        self.assertEqual(
            set(shown),
            {
                *("_id", "__v", "account", "customer", "available_balance", "ledger_balance", "currency", "periodic"),
                *("connected", "owner", "record", "env", "created_at", "last_updated"),
            },
        )
        self.assertRegex(shown["_id"], f"^{ID.pattern}$")
        self.assertEqual(shown["__v"], 0)
        self.assertEqual(
            {name: shown["account"][name] for name in ("_id", "name", "nuban")},
            {"_id": self.account["id"], "name": self.account["name"], "nuban": self.account["nuban"]},
        )
        self.assertEqual(shown["account"]["bank"]["_id"], self.bank)
        self.assertEqual(shown["customer"], {"_id": self.customer, "name": "Ada Obi"})
        for name in ("available_balance", "ledger_balance"):
            self.check_number(shown[name])
        self.assertEqual(shown["currency"], "NGN")
        self.assertEqual(shown["periodic"], {"available_balance": [], "ledger_balance": []})
        self.assertEqual(shown["connected"], [])
        self.assertEqual(shown["record"], [self.record])
        self.assertEqual(len(shown["owner"]), 1)
        self.assertEqual(shown["env"], "production-sandbox")
        self.check_times(shown)

    def balances(self, response, count=1):
        data = self.data(response, "Balance retrieved succesfully")
        self.assertEqual(set(data), {"pagination", "balance"})
        self.assertEqual(len(data["balance"]), count)
        self.check_pagination(data["pagination"], count)
        return data["balance"]

    def test_balance_in_every_way(self):
        [known] = self.balances(balance.getbyCustomer(self.customer))
        self.check_balance(known)
        for response in (
            balance.getbyID(known["_id"]),
            balance.getbyAccount(self.account["id"]),
            balance.getbyOptions(**OPTIONS),
            balance.getbyCustomerDate(self.customer, *EVER),
        ):
            self.assertEqual(self.balances(response), [known])
        self.balances(balance.getbyOptions("Nobody", "Here"), 0)
        self.balances(balance.getbyCustomerDate(self.customer, *NEVER), 0)

    def test_balance_by_type(self):
        [known] = self.balances(balance.getbyCustomer(self.customer))
        for kind in ("available_balance", "ledger_balance"):
            response = balance.getbyType(kind, str(known[kind]))
            data = self.data(response, "Balance retrieved succesfully")
            [shown] = data["balance"]
            self.assertEqual(shown["id"], known["_id"])
            self.assertEqual(shown["customer"], self.customer)
            self.assertEqual(shown[kind], known[kind])
            none = self.data(balance.getbyType(kind, "0.01"), "Balance retrieved succesfully")
            self.assertEqual(none["balance"], [])
        self.refused(balance.getbyType("other", "1"), 400, "VALIDATION", "type")
        self.refused(balance.getbyType("ledger_balance", "much"), 400, "VALIDATION", "value")

    def test_products_balances(self):
        data = self.data(balance.retrieve_balance(), "Balances retrieved successfully")
        self.assertEqual(set(data), {"pagination", "balances"})
        self.assertIsNone(data["pagination"])
        [shown] = data["balances"]
        self.assertIs(shown["connected"], True)
        self.assertEqual(shown["account"]["_id"], self.account["id"])
        self.check_times(shown)

    def check_acknowledged(self, response, method, message):
        data = self.data(response, message)
        url = f"http://127.0.0.1:{running.port}/v2/callback?record={self.record}&method={method}"
        # The job is ours, and so is the time of the next.
        self.assertRegex(data.pop("job"), f"^on-demand-{self.record}-")
        self.assertRegex(data.pop("next_refresh_available_at"), "^20[0-9]{2}-.*Z$")
        self.assertEqual(data, {"record": self.record, "method": method, "callback_url": url})

    def test_refreshes(self):
        asked = (self.account["id"], self.record, "NGN")
        self.check_acknowledged(balance.getRealTimeBalance(*asked), "PERIODIC_BALANCE", "Balance checking...")
        response = transaction.getRealTimeBalance(*asked)
        self.check_acknowledged(response, "PERIODIC_TRANSACTIONS", "Transactions processing...")
        # Joins what runs and waits for it: what it finds may not come between two reads of another test.
        running.post("customers/retry", {"record_id": self.record, "wait": True})

    def check_transaction(self, row):
        self.assertRegex(row["_id"], f"^{ID.pattern}$")
        self.assertNotEqual(row["credit"] is None, row["debit"] is None)
        self.check_number(row["debit"] if row["credit"] is None else row["credit"])
        self.assertRegex(row["trans_date"], f"^{INSTANT.pattern}$")
        self.assertEqual(row["currency"], "NGN")
        notes = row["notes"]
        self.assertIsInstance(notes["desc"], str)
        empty = ("topics", "places", "people", "actions", "subjects", "prepositions", "preopositions")
        self.assertEqual({name: notes[name] for name in empty}, {name: [] for name in empty})
        self.assertEqual(row["ner"], {"beneficiaries": "", "account": []})
        self.assertEqual(row["location"], {"address": "", "lat": 0, "long": 0, "raw": ""})
        self.assertEqual(set(row["bank"]), {"name", "logo", "icon", "status"})
        self.assertEqual(row["customer"], {"_id": self.customer, "name": "Ada Obi"})
        self.assertEqual(row["account"], {"_id": self.account["id"], "name": self.account["name"]})
        self.assertEqual(row["record"], [self.record])
        for name in ("projects", "analyzed", "checked"):
            self.assertEqual(row[name], [])
        self.assertEqual((row["manual"], row["reconciled"]), (False, False))
        self.assertEqual(row["env"], "production-sandbox")
        self.check_times(row)

    def rows(self, response, total=None, limit=20, page=1):
        data = self.data(response, "Transactions retrieved succesfully")
        self.assertEqual(set(data), {"pagination", "transaction"})
        total = data["pagination"]["totalDocs"] if total is None else total
        self.check_pagination(data["pagination"], total, limit, page)
        return data["transaction"], total

    def test_transactions_in_every_way(self):
        rows, total = self.rows(transaction.getbyCustomer(self.customer, limit=1000), limit=1000)
        self.assertGreater(total, 3)
        self.assertEqual(len(rows), total)
        for row in rows:
            self.check_transaction(row)
        for response in (
            transaction.getbyAccount(self.account["id"], limit=1000),
            transaction.getbyOptions(**OPTIONS, limit=1000),
            transaction.getbyBank(self.bank, limit=1000),
            transaction.getbyDate(*EVER, limit=1000),
            transaction.getbyCustomerDate(self.customer, *EVER, limit=1000),
        ):
            self.assertEqual(self.rows(response, total, 1000)[0], rows)
        self.assertEqual(self.rows(transaction.getbyID(rows[0]["_id"]), 1)[0], rows[:1])
        second = self.rows(transaction.getbyCustomer(self.customer, page=2, limit=2), total, 2, 2)[0]
        self.assertEqual(second, rows[2:4])
        self.assertEqual(self.rows(transaction.getbyCustomerDate(self.customer, *NEVER), 0)[0], [])
        debit = next(row for row in rows if row["debit"] is not None)
        same = self.rows(transaction.getbyType("debit", str(debit["debit"])))[0]
        self.assertIn(debit, same)
        self.assertEqual({row["debit"] for row in same}, {debit["debit"]})

    def test_products_transactions(self):
        total = self.rows(transaction.getbyCustomer(self.customer))[1]
        data = self.data(transaction.getTransactions(), "Transactions retrieved successfully")
        self.assertIsNone(data["pagination"])
        [counted] = data["trans"]
        self.assertEqual(counted["customer"], {"_id": self.customer, "name": "Ada Obi"})
        self.assertEqual((counted["bank"]["_id"], counted["count"]), (self.bank, total))
        self.assertEqual(counted["env"], "production-sandbox")

    def test_spending_pattern(self):
        rows = self.rows(transaction.getbyCustomer(self.customer, limit=1000), limit=1000)[0]
        data = self.data(transaction.SpendingPattern(self.customer), "Spending pattern retrieved successfully")
        self.assertEqual(sum(month["count"] for month in data["months"]), len(rows))
        debits = sum(row["debit"] or 0 for row in rows)
        self.assertAlmostEqual(sum(month["debit"] for month in data["months"]), debits, places=2)

    def test_auth_in_every_way(self):
        def auths(response, count=1):
            data = self.data(response, "Auth retrieved succesfully")
            self.check_pagination(data["pagination"], count)
            return data["auths"]

        [known] = auths(auth.getbyCustomer(self.customer))
        self.assertEqual((known["_id"], known["id"], known["record"]), (self.record,) * 3)
        self.assertEqual(known["customer"], {"_id": self.customer, "name": "Ada Obi"})
        self.assertEqual(set(known["bank"]), {"name", "logo", "icon", "status", "v2_icon", "v2_logo"})
        self.assertIs(known["validated"], True)
        self.check_times(known)
        for response in (
            auth.getbyID(known["_id"]),
            auth.getbyOptions(**OPTIONS),
            auth.getbyDate(*EVER),
            auth.getbyBank(self.bank),
            auth.getbyCustomerDate(self.customer, *EVER),
        ):
            self.assertEqual(auths(response), [known])
        self.assertEqual(auths(auth.getbyDate(*NEVER), 0), [])
        data = self.data(auth.retrieve_auth(), "Auths retrieved successfully")
        self.assertIsNone(data["pagination"])
        [listed] = data["auths"]
        self.assertEqual(listed["record"]["bank"]["_id"], self.bank)
        self.assertEqual(listed["record"]["customer"], {"_id": self.customer, "name": "Ada Obi"})

    def test_what_is_wrong_is_refused(self):
        self.refused(balance.getbyCustomer("x"), 400, "VALIDATION", "customer")
        self.refused(balance.getbyCustomer("0" * 24), 404, "NOT_FOUND", "customer")
        self.refused(transaction.getbyAccount(""), 400, "VALIDATION", "account")
        self.refused(transaction.getbyDate(*EVER[::-1]), 400, "VALIDATION", "to")
        self.refused(transaction.getbyCustomer(self.customer, limit=0), 400, "VALIDATION", "limit")
        stranger = Okra_Balance(token="sk_wrong", base_url=running.base_url)
        self.refused(stranger.retrieve_balance(), 401, "API", "key")

    def test_every_base_url_of_okras(self):
        for prefix in ("v1/", "v2/", "sandbox/v1/", "sandbox/v2/", "v2/sandbox/", "/v2//"):
            client = Okra_Balance(token=running.key, base_url=f"http://127.0.0.1:{running.port}/{prefix}")
            self.balances(client.getbyCustomer(self.customer))


if __name__ == "__main__":
    unittest.main()
