"""The widget and the dashboard in a real browser: Debian's Chromium, headless.

With OKRA_SHOTS=folder each page is also kept as a picture, light and dark, phone and desktop.
"""

import datetime
import importlib.util
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import unittest
import urllib.parse

from system import FLAGS, Pages, System, chromium, eventually

SKIP = None
if chromium() is None:
    SKIP = "skipped: no chromium (apt-get install chromium)"
elif importlib.util.find_spec("playwright") is None:
    SKIP = "skipped: no playwright (scripts/setup-tools)"
else:
    from playwright.sync_api import sync_playwright

MAX_PAGE_BYTES = 100_000
PHONE, DESKTOP = {"width": 360, "height": 780}, {"width": 1280, "height": 860}
NASTY = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>"\'&lt;'

EMBED = """<!doctype html><html lang="en"><title>An app</title><main><h1>An app</h1>
<button id="go">Link your bank</button><pre id="said"></pre></main>
<script src="{bundle}"></script>
<script>
  window.said = [];
  const say = (kind) => (data) => {{ window.said.push([kind, data === undefined ? null : JSON.parse(JSON.stringify(data))]); }};
  const options = {options};
  Okra.baseUrl = {base};
  document.getElementById('go').onclick = () => Okra.buildWithOptions({{
    ...options, onSuccess: say('success'), onClose: say('close'), onError: say('error'), beforeClose: say('beforeClose'),
    {event}
  }});
</script></html>"""


SHORT = """<!doctype html><title>s</title><script src="{bundle}"></script><script>
  window.said = [];
  const say = (kind) => (data) => {{ window.said.push([kind, data === undefined ? null : JSON.parse(JSON.stringify(data))]); }};
  addEventListener('load', () => Okra.buildWithShortUrl({{
    short_url: "{name}", onSuccess: say('success'), onClose: say('close'), onError: say('error') }}));
</script>"""


def axe():
    import axe_playwright_python

    return (pathlib.Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()


@unittest.skipIf(SKIP, SKIP)
class Browser(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.system, cls.pages = System(), Pages()
        cls.addClassCleanup(cls.system.stop)
        cls.addClassCleanup(cls.pages.stop)
        playwright = sync_playwright().start()
        cls.addClassCleanup(playwright.stop)
        cls.chromium = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        cls.addClassCleanup(cls.chromium.close)
        cls.axe = axe()
        cls.shots = os.environ.get("OKRA_SHOTS")
        cls.keys = cls.read_keys()

    @classmethod
    def read_keys(cls):
        context = cls.chromium.new_context()
        page = context.new_page()
        cls.sign_in(page)
        page.goto(f"{cls.system.url}/dashboard/keys")
        keys = {
            "key": page.text_content("#public-key"),
            "token": page.text_content("#client-token"),
        }
        context.close()
        return keys

    @classmethod
    def sign_in(cls, page, key=None):
        page.goto(f"{cls.system.url}/dashboard")
        page.fill("#key", key or cls.system.key)
        page.click("button.main")
        page.wait_for_load_state()

    def context(self, viewport=DESKTOP, scheme="light"):
        """A browser of a new visitor; what its pages complain of is in `complaints`."""
        context = self.chromium.new_context(viewport=viewport, color_scheme=scheme)
        self.addCleanup(context.close)
        context.complaints, context.asked = [], []
        # Left out: an answer with an error status, which a test may be about.
        noise = "Failed to load resource"
        context.on(
            "console",
            lambda said: context.complaints.append(said.text)
            if said.type in ("error", "warning") and noise not in said.text
            else None,
        )
        context.on("weberror", lambda error: context.complaints.append(str(error.error)))
        context.on("request", lambda request: context.asked.append(request.url))
        return context

    # --- the widget ------------------------------------------------------------------------

    def embed(self, context, options=None, host="localhost", bundle=None, event=True):
        """A page of the app with the widget open: the page, and the frame in it."""
        options = {**self.keys, "env": "sandbox", "name": "Ledger & Co", **(options or {})}
        text = EMBED.format(
            bundle=bundle or f"{self.system.url}/v2/bundle.js",
            options=json.dumps(options),
            base=json.dumps(self.system.url),
            event="onEvent: say('event')," if event else "",
        )
        name = f"{self.id().rsplit('.', 1)[-1]}.html"
        self.pages.write(name, text)
        page = context.new_page()
        page.goto(self.pages.url(name, host))
        page.click("#go")
        return page, page.frame_locator("iframe")

    def said(self, page, kind):
        def look():
            return [data for name, data in page.evaluate("window.said") if name == kind]

        return eventually(f"the page is told {kind}", look)[0]

    def log_in(self, page, frame, user, password="sandbox", code=None):
        """Goes to the bank, and through its pages; the bank's window."""
        with page.expect_popup() as opened:
            frame.get_by_role("button", name="Continue to").click()
        bank = opened.value
        bank.wait_for_url(f"{self.system.bank}/**")
        bank.fill("#username", user)
        bank.fill("#password", password)
        bank.click("button.main")
        if code:
            bank.fill("#code", code)
            bank.click("button.main")
        return bank

    @staticmethod
    def closes(window):
        """The bank's window closes by itself after a moment."""
        if not window.is_closed():
            window.wait_for_event("close")

    def link(self, page, frame, bank="Access Bank", user="new", code=None):
        """Links two accounts of a new customer; what `onSuccess` was handed."""
        frame.get_by_role("button", name=bank).click()
        window = self.log_in(page, frame, user, code=code)
        window.get_by_role("button", name="Allow").click()
        frame.get_by_role("button", name="Share and continue").click()
        return self.said(page, "success")

    def test_a_page_links_a_bank_and_is_kept_up_to_date(self):
        context = self.context()
        refresh = {"interval": "one_minute", "products": ["balance", "transactions"]}
        page, frame = self.embed(context, {"refresh": refresh, "options": {"UserId": "u-1"}})
        linked = self.link(page, frame)
        record = linked["record_id"]
        self.assertEqual(len(linked["accounts"]), 2)
        self.assertEqual(linked["accounts"][0]["customer"], linked["auth"]["customer_id"])
        self.assertEqual(linked["auth"]["bank_details"]["slug"], "access-bank")
        self.assertEqual(linked["bank_id"], linked["auth"]["bank_id"])
        for name in ("id", "name", "nuban"):
            self.assertTrue(linked["accounts"][0][name], name)
        # It is syncing already when the page is told.
        synced = self.system.post("data-sync/list", {"customer": linked["auth"]["customer_id"]})
        (subscription,) = synced["subscriptions"]
        self.assertEqual(subscription["interval"], "one_minute")
        eventually(
            "webhooks of both accounts",
            lambda: {it["method"] for it in self.system.webhooks() if it["record"] == record}
            >= {"BALANCE", "TRANSACTIONS"},
        )
        frame.get_by_role("button", name="Done").click()
        self.said(page, "close")
        self.assertEqual(page.locator("iframe").count(), 0)
        self.assertEqual(context.complaints, [])
        # Nothing was asked of anybody else, and the bank's login went to the bank alone.
        ours = (self.system.url, self.system.bank, self.pages.url(""), "about:", "data:")
        self.assertEqual([url for url in context.asked if not url.startswith(ours)], [])

        self.sign_in(page)
        page.goto(f"{self.system.url}/dashboard/records/{record}")
        self.assertIn(linked["customer"]["name"], page.text_content("h1"))
        self.assertEqual(page.locator(".accounts article").count(), 2)
        self.assertIn("every minute", page.text_content("main"))
        # The webhook that arrived, as the dashboard shows it.
        page.locator(".feed a", has_text="deliveries").last.click()
        page.get_by_role("heading", name="Deliveries of the event").wait_for()
        page.locator("main table").get_by_text("Delivered").first.wait_for()

    def test_the_consent_says_what_is_read_and_nothing_else_is(self):
        context = self.context()
        options = {
            **{"products": ["balance"], "refresh": {"interval": "one_hour", "products": ["balance"]}},
            **{"limit": 2, "color": "#ffcc00", "logo": "https://app.example/logo.png"},
        }
        page, frame = self.embed(context, options)
        frame.get_by_role("button", name="Access Bank").click()
        consent = frame.locator("section[data-step=consent]")
        consent.wait_for()
        self.assertIn("your balances", consent.text_content())
        self.assertIn("every hour", consent.text_content())
        self.assertNotIn("transactions", consent.text_content())
        main = frame.locator("button.main").evaluate("it => [getComputedStyle(it).backgroundColor, getComputedStyle(it).color]")
        self.assertEqual(main, ["rgb(255, 204, 0)", "rgb(0, 0, 0)"])
        window = self.log_in(page, frame, "new")
        window.get_by_role("button", name="Allow").click()
        frame.get_by_role("button", name="Share and continue").click()
        linked = self.said(page, "success")
        self.assertEqual(linked["refresh"], {"balance": "one_hour", "transactions": None})
        # What is passed over is named, once.
        self.assertEqual(len(context.complaints), 1, context.complaints)
        self.assertIn("nothing here reads it: logo.", context.complaints[0])

    def test_okras_published_packages_work_by_base_url(self):
        if shutil.which("npm") is None:
            self.skipTest("skipped: no npm to get Okra's packages with")
        with tempfile.TemporaryDirectory() as folder:
            for package, version in (("okra-js", "2.1.1"), ("npm-okrajs", "1.0.8")):
                pack = ["npm", "pack", "--silent", f"{package}@{version}"]
                subprocess.run(pack, cwd=folder, check=True, capture_output=True)
                archive = f"{package}-{version}.tgz"
                subprocess.run(["tar", "xzf", archive], cwd=folder, check=True)
                bundle = pathlib.Path(folder, "package", "dist", "bundle.js").read_text()
                self.pages.write(f"{package}.js", bundle)
                with self.subTest(package):
                    context = self.context()
                    # The older package cannot post options with a callback that it does not know.
                    known = package == "okra-js"
                    page, frame = self.embed(context, bundle=f"{package}.js", event=known)
                    linked = self.link(page, frame)
                    self.assertEqual(len(linked["accounts"]), 2)
                    frame.get_by_role("button", name="Done").click()
                    self.said(page, "close")
                    self.assertEqual(context.complaints, [])

    def test_a_wrong_password_is_said_and_the_next_one_works(self):
        page, frame = self.embed(self.context())
        frame.get_by_role("button", name="Access Bank").click()
        bank = self.log_in(page, frame, "new", password="wrong")
        self.assertIn("wrong", bank.text_content("[role=alert]"))
        bank.fill("#username", "new")
        bank.fill("#password", "sandbox")
        bank.click("button.main")
        bank.get_by_role("button", name="Allow").click()
        frame.get_by_role("button", name="Share and continue").click()
        self.said(page, "success")

    def test_a_one_time_code_is_asked_for_and_checked(self):
        page, frame = self.embed(self.context())
        frame.get_by_role("button", name="Zenith Bank").click()
        bank = self.log_in(page, frame, "mfa", code="000000")
        self.assertIn("wrong", bank.text_content("[role=alert]"))
        bank.fill("#code", "123456")
        bank.click("button.main")
        bank.get_by_role("button", name="Allow").click()
        frame.get_by_role("button", name="Share and continue").click()
        self.said(page, "success")

    def test_a_bank_that_takes_its_time_is_waited_for(self):
        page, frame = self.embed(self.context())
        frame.get_by_role("button", name="Access Bank").click()
        bank = self.log_in(page, frame, "slow")
        frame.get_by_text("Waiting for you to log in").wait_for()
        self.system.control("PUT", "faults", {"slow_ms": 2500})
        self.addCleanup(self.system.control, "PUT", "faults", {})
        bank.get_by_role("button", name="Allow").click()
        frame.get_by_role("button", name="Share and continue").click()
        self.said(page, "success")
        frame.get_by_role("heading", name="Account linked").wait_for()
        # Each step is told as it is shown, also those that are over before anybody looks.
        steps = [data["event_name"] for name, data in page.evaluate("window.said") if name == "event"]
        shown = ["banks", "consent", "bank", "reading", "accounts", "progress", "success"]
        self.assertEqual([it for it in steps if it.startswith("step ")], [f"step {it}" for it in shown])

    def test_a_bank_that_is_down_or_refused_is_said(self):
        page, frame = self.embed(self.context())
        frame.get_by_role("button", name="Access Bank").click()
        window = self.log_in(page, frame, "down")
        frame.get_by_text("unavailable at the moment").wait_for()
        self.closes(window)
        with page.expect_popup() as opened:
            frame.get_by_role("button", name="Continue to").click()
        opened.value.get_by_role("button", name="Cancel").click()
        frame.get_by_text("did not let you in, or you cancelled").wait_for()
        self.closes(opened.value)
        self.system.control("PUT", "faults", {"outage": "unavailable"})
        self.addCleanup(self.system.control, "PUT", "faults", {})
        frame.get_by_role("button", name="Continue to").click()
        frame.get_by_text("unavailable at the moment").wait_for()

    def test_a_consent_that_ended_is_renewed(self):
        page, frame = self.embed(self.context())
        linked = self.link(page, frame)
        frame.get_by_role("button", name="Done").click()
        record, account = linked["record_id"], linked["accounts"][0]["id"]
        logins = self.system.control("GET", "logins")
        login = next(
            it["id"]
            for it in logins
            if linked["accounts"][0]["nuban"] in [account["number"] for account in it["accounts"]]
        )
        self.system.control("PUT", f"logins/{login}/consent", {"state": "expired"})
        self.system.post("customers/retry", {"record_id": record})
        self.sign_in(page)
        page.goto(f"{self.system.url}/dashboard/records/{record}")
        # The page is live: the state arrives without a click.
        page.locator(".title").get_by_text("Requires the user").wait_for(timeout=30_000)
        options = {"reauth_account": account, "reauth_bank": linked["bank_id"]}
        page, frame = self.embed(self.context(), options)
        frame.get_by_role("heading", name="Renew your consent").wait_for()
        self.assertIn("your balances", frame.locator("ul.ticks").text_content())
        window = self.log_in(page, frame, f"customer{login}")
        window.get_by_role("button", name="Allow").click()
        frame.get_by_role("button", name="Share and continue").click()
        again = self.said(page, "success")
        self.assertEqual(again["record_id"], record)
        self.sign_in(page)
        page.goto(f"{self.system.url}/dashboard/records/{record}")
        self.assertIn("Active", page.text_content(".title"))

    def test_options_that_are_wrong_are_refused_in_words(self):
        def check(options, expected):
            context = self.context()
            page, _ = self.embed(context, options)
            message = self.said(page, "error")["message"]
            self.assertIn(expected, message)
            self.assertTrue(any(expected in it for it in context.complaints), context.complaints)

        check({"refresh": {"interval": "hourly"}}, 'refresh.interval is "hourly"')
        check({"refresh": {"products": ["income"]}}, 'refresh.products is ["income"]')
        check({"refresh": "daily"}, "refresh must be true or an object")
        check({"refresh": False}, "refresh is false")
        check({"products": ["identity"]}, 'products is ["identity"]')
        check({"limit": 25}, "limit must be")
        check({"key": "okra_sk_x"}, "key is a secret key")
        check({"key": "0000"}, "key is not a public key")
        check({"token": "0" * 24}, "token is not the client token")
        check({"reauth_account": "0" * 24}, "reauth_account and reauth_bank go together")
        check({"customer": {"id": "0" * 24}}, "customer.id is not a customer")

    def test_a_page_of_another_origin_cannot_open_the_widget(self):
        page = self.context().new_page()
        self.sign_in(page)
        self.set_origins(page, f"http://localhost:{self.pages.port}")
        self.addCleanup(self.set_origins, page, "")
        _, frame = self.embed(self.context())
        frame.get_by_role("heading", name="Choose your bank").wait_for()
        # Our own bundle names the key, so that the browser itself does not show the frame.
        hostile, _ = self.embed(self.context(), host="127.0.0.1")
        hostile.wait_for_timeout(500)
        shown = [it.url for it in hostile.frames if "isIframe" in it.url and it.url.startswith("http")]
        bodies = [it.locator("main").count() for it in hostile.frames if it.url in shown]
        self.assertNotIn(1, bodies)
        # A page that leaves the key out of the address is refused when it hands over its options.
        self.pages.write(
            "hostile.html",
            f"""<title>h</title><iframe id="f" src="{self.system.url}/?isIframe=true"></iframe><script>
            window.said = [];
            addEventListener('message', (event) => {{ window.said.push([Object.keys(event.data).join(), event.data]);
              if (event.data.ifameLoaded) f.contentWindow.postMessage({json.dumps({**self.keys, "withOptions": True})}, '*'); }});
            </script>""",
        )
        hostile.goto(self.pages.url("hostile.html", "127.0.0.1"))
        eventually(
            "the refusal", lambda: [it for _, it in hostile.evaluate("window.said") if it.get("error")]
        )
        text = hostile.frame_locator("iframe").locator("main").text_content()
        self.assertIn(f"http://127.0.0.1:{self.pages.port} may not open the widget", text)

    def set_origins(self, page, text):
        page.goto(f"{self.system.url}/dashboard/keys")
        page.fill("#origin-list", text)
        page.locator("form[action$=origins] button").click()
        page.wait_for_load_state()

    def test_the_keyboard_alone_links_a_bank(self):
        page, frame = self.embed(self.context())
        frame.get_by_role("heading", name="Choose your bank").wait_for()
        page.keyboard.press("Tab")
        self.assertEqual(frame.locator(":focus").get_attribute("id"), "search")
        page.keyboard.type("zen")
        page.keyboard.press("Tab")
        self.assertIn("Zenith", frame.locator(":focus").text_content())
        page.keyboard.press("Enter")
        heading = frame.get_by_role("heading", name="What you agree to")
        heading.wait_for()
        self.assertEqual(frame.locator(":focus").text_content(), "What you agree to")
        page.keyboard.press("Escape")
        self.said(page, "close")
        self.assertEqual(page.evaluate("document.activeElement.id"), "go")

    def test_a_short_link_opens_the_widget_alone_and_on_a_page(self):
        refresh = {"interval": "one_hour", "products": ["balance"]}
        asked = {"name": "Short & Co", "refresh": refresh, "redirect_url": self.pages.url("back.html")}
        made = self.system.post("links/new", asked)["link"]
        self.pages.write("back.html", "<!doctype html><title>b</title><h1>Welcome back</h1>")
        context = self.context()
        page = context.new_page()
        page.goto(made["url"])
        page.get_by_role("heading", name="Choose your bank").wait_for()
        self.assertEqual(page.text_content("#app-name"), "Short & Co")
        page.get_by_role("button", name="Access Bank").click()
        window = self.log_in(page, page, "new")
        window.get_by_role("button", name="Allow").click()
        page.get_by_role("button", name="Share and continue").click()
        page.get_by_role("heading", name="Account linked").wait_for(timeout=40_000)
        page.get_by_text("every hour").wait_for()
        page.get_by_role("button", name="Done").click()
        page.get_by_role("heading", name="Welcome back").wait_for()
        self.assertEqual(context.complaints, [])
        self.assertEqual(page.goto(f"{self.system.url}/link/nothing000").status, 404)

        def by_short_url(name):
            self.pages.write("short.html", SHORT.format(bundle=f"{self.system.url}/v2/bundle.js", name=name))
            page = self.context().new_page()
            page.goto(self.pages.url("short.html"))
            return page

        page = by_short_url(made["short_url"])
        self.link(page, page.frame_locator("iframe"))
        self.assertIn("no short link", self.said(by_short_url("nothing000"), "error")["message"])

    # --- the dashboard ---------------------------------------------------------------------

    def test_the_dashboard_is_closed_without_a_key(self):
        context = self.context()
        page = context.new_page()
        page.goto(f"{self.system.url}/dashboard/records?q=a%20b")
        self.assertIn("/dashboard/sign-in", page.url)
        self.sign_in(page, "okra_sk_0000")
        self.assertIn("not a secret key", page.text_content("[role=alert]"))
        self.sign_in(page)
        self.assertEqual(page.url, f"{self.system.url}/dashboard")
        (cookie,) = context.cookies()
        self.assertTrue(cookie["httpOnly"])
        self.assertEqual(cookie["sameSite"], "Strict")
        # A form without the page's token, and one from elsewhere, change nothing.
        refused = context.request.post(
            f"{self.system.url}/dashboard/webhooks", form={"url": "https://evil.example/", "csrf": "x"}
        )
        self.assertEqual(refused.status, 403)
        self.assertEqual(page.goto(f"{self.system.url}/dashboard/records/{'0' * 24}").status, 404)
        # Who is signed in is not signed out by the form's page.
        page.goto(f"{self.system.url}/dashboard/sign-in?next=/dashboard/keys")
        self.assertEqual(page.url, f"{self.system.url}/dashboard/keys")
        # A page that is left open goes to the form when its session ends.
        open_still = context.new_page()
        open_still.goto(f"{self.system.url}/dashboard/banks")
        page.get_by_role("button", name="Sign out").click()
        open_still.wait_for_url("**/dashboard/sign-in?next=*")
        page.goto(f"{self.system.url}/dashboard")
        self.assertIn("/dashboard/sign-in", page.url)

    def test_what_a_bank_says_stays_text(self):
        demo = self.system.demo["customers"][0]
        logins = self.system.control("GET", "logins")
        login = next(it for it in logins if it["name"] == demo["name"])
        account = login["accounts"][0]["account_id"]
        place = f"logins/{login['id']}/accounts/{account}/transactions"
        self.system.control("POST", place, {"direction": "debit", "amount": "1.00", "text": NASTY})
        context = self.context()
        page = context.new_page()
        self.sign_in(page)
        page.goto(f"{self.system.url}/dashboard/records/{demo['record']}")
        page.get_by_role("button", name="Refresh now").click()
        page.locator("#progress").get_by_text("Something changed").first.wait_for(timeout=20_000)
        page.locator("#main .feed").get_by_text("onerror").first.wait_for()
        page.locator("table").get_by_text("onerror").first.wait_for()
        self.assertEqual(page.locator("main img").count(), 0)
        self.assertIsNone(page.evaluate("window.pwned ?? null"))
        self.assertEqual(context.complaints, [])

    def test_a_class_of_fault_leads_to_the_records_that_have_it(self):
        demo = self.system.demo["customers"][1]
        login = self.login(demo["name"])
        self.system.control("PUT", f"logins/{login['id']}/faults", {"malformed": "html"})
        self.addCleanup(self.system.control, "PUT", f"logins/{login['id']}/faults", {})
        self.system.post("customers/retry", {"record_id": demo["record"], "wait": True})
        page = self.context().new_page()
        self.sign_in(page)
        errors = page.locator("section[aria-labelledby=errors]")
        nonsense = errors.locator("dt", has_text="Unreadable bank response").locator("xpath=following-sibling::dd[1]")

        def counted():
            page.goto(f"{self.system.url}/dashboard")
            return int(nonsense.locator("span").text_content())

        eventually("the fault is counted", counted)
        nonsense.get_by_role("link").click()
        self.assertEqual(page.locator("main tbody tr a.strong").all_text_contents(), [demo["name"]])
        self.assertEqual(page.locator("select[name=failing]").input_value(), "nonsense")
        page.get_by_role("link", name=demo["name"]).click()
        failure = page.locator("section[aria-labelledby=state] .next").first.text_content()
        self.assertIn(": failed since", failure)
        self.assertIn("The bank's response could not be read", failure)
        self.assertIn("Next refresh in", failure)
        self.system.control("PUT", f"logins/{login['id']}/faults", {})
        self.system.post("customers/retry", {"record_id": demo["record"], "wait": True})
        page.goto(f"{self.system.url}/dashboard/records?failing=nonsense")
        page.get_by_role("heading", name="No record fails this way now").wait_for()

    def login(self, name):
        """The login of a customer at the sandbox bank."""
        return next(it for it in self.system.control("GET", "logins") if it["name"] == name)

    def test_what_is_used_of_a_banks_daily_quota_is_counted(self):
        bank = {
            **{"id": "5d6fe57a4099cc4b210bbee1", "name": "Quota Bank", "slug": "quota-bank"},
            **{"standard": "obie-3.1", "base_url": f"{self.system.bank}/open-banking/v3.1/aisp"},
            "limits": {"unattended_per_day": 4, "user_reserve": 2},
        }
        self.system.post("banks/add", bank)
        login = self.system.control("POST", "logins", {"name": "Efe Ojo"})["id"]
        token = self.system.control("POST", f"logins/{login}/link")["access_token"]
        asked = {"name": "Efe Ojo", "bank": bank["id"], "access_token": token, "interval": "one_minute"}
        record = self.system.post("records/link", asked)["record_id"]
        page = self.context().new_page()
        self.sign_in(page)
        row = page.locator("main tbody tr", has_text="Quota Bank")

        def shown():
            page.goto(f"{self.system.url}/dashboard/banks")
            return " ".join(row.locator("td").nth(5).inner_text().split())

        self.assertIn("2 of 4 a day scheduled", shown())
        self.assertIn("none on demand in 24 hours", shown())
        for _ in range(2):
            self.system.post("balance/refresh", {"record_id": record, "wait": True})
        self.assertIn("2 on demand in 24 hours, at most 2 of one record and product", shown())
        self.assertIn("every 12 hours", row.text_content())
        row.locator("td").nth(5).get_by_role("link").last.click()
        sync = page.locator("section[aria-labelledby=sync] dd").first.text_content()
        self.assertIn("the bank allows no more", sync)
        self.assertIn("on demand in 24 hours: 2 of 2", sync)
        self.assertIn("available in", page.locator("section[aria-labelledby=state] dl").text_content())
        # Asking all the same is answered in words, and the other product is refreshed.
        page.get_by_role("button", name="Refresh now").click()
        page.locator("#progress").get_by_text("The bank allows no more refreshes").wait_for()

    def test_balances_are_drawn_and_old_values_stand_beside_new_ones(self):
        made = self.system.post("customers/create", {"name": "Chart Test"})
        record = made["record_id"]
        refresh = lambda: self.system.post("customers/retry", {"record_id": record, "wait": True})
        eventually("the first pull", lambda: refresh().get("balances"))
        login = self.login("Chart Test")
        account = login["accounts"][0]["account_id"]
        place = f"logins/{login['id']}/accounts/{account}/transactions"
        before = refresh()["balances"][0]["available_balance"]
        payment = {"direction": "debit", "amount": "2500.00", "text": "POS SHOPRITE"}
        row = self.system.control("POST", place, payment)
        done = refresh()
        after = done["balances"][0]["available_balance"]
        self.assertNotEqual(before, after)
        self.system.control("PATCH", f"{place}/{row['row']}", {"amount": "2400.00"})
        refresh()
        context = self.context()
        page = context.new_page()
        self.sign_in(page)
        page.goto(f"{self.system.url}/dashboard/records/{record}")
        chart = page.locator(".accounts article").first.get_by_role("img")
        self.assertRegex(chart.get_attribute("aria-label"), r"over time: [2-9]\d* changes, now [\d,.−]+ NGN")
        # Each change of the balance is a step: along, then up or down.
        self.assertRegex(chart.locator("path.line").get_attribute("d"), r"^M[\d.]+ [\d.]+(H[\d.]+V[\d.]+)+H600")
        feed = page.locator(".feed > li")
        balance = feed.filter(has=page.locator("del", has_text=f"{before:,.2f}"))
        self.assertIn(f"{after:,.2f}", balance.first.locator("ins").first.text_content())
        edited = feed.locator(".fact", has_text="amount")
        self.assertEqual(edited.first.locator("del").text_content(), "2,500.00")
        self.assertEqual(edited.first.locator("ins").text_content(), "2,400.00")
        self.assertEqual(context.complaints, [])

    def test_a_record_is_put_on_another_interval(self):
        demo = self.system.demo["customers"][2]
        page = self.context().new_page()
        self.sign_in(page)
        page.goto(f"{self.system.url}/dashboard/records?q=chidi")
        page.get_by_role("link", name=demo["name"]).click()
        page.select_option("select[name=interval]", "one_hour")
        page.get_by_role("button", name="Change", exact=True).click()
        page.wait_for_load_state()
        self.assertIn("every hour", page.locator("section[aria-labelledby=sync] dl").text_content())
        shown = self.system.post("data-sync/list", {"customer": demo["customer"]})
        self.assertEqual({it["interval"] for it in shown["subscriptions"]}, {"one_hour"})

    def test_an_endpoint_is_added_rotated_and_removed(self):
        page = self.context().new_page()
        self.sign_in(page)
        page.goto(f"{self.system.url}/dashboard/webhooks")
        page.fill("input[name=url]", "https://app.example/hook")
        page.get_by_role("button", name="Add endpoint").click()
        first = page.text_content("#secret-text")
        self.assertTrue(first.startswith("whsec_"), first)
        page.get_by_role("link", name="To the endpoint").click()
        self.assertNotIn(first, page.content())
        page.get_by_role("button", name="Rotate the secret").click()
        second = page.text_content("#secret-text")
        self.assertNotEqual(first, second)
        page.get_by_role("link", name="To the endpoint").click()
        page.get_by_role("button", name="Remove the endpoint").click()
        page.wait_for_load_state()
        self.assertNotIn("app.example", page.text_content("main table"))

    def endpoint(self, url):
        """The id of the endpoint of a URL, which is added where it is not there."""
        return self.system.post("webhooks/set", {"url": url})["id"]

    def receiver(self):
        """The id and the URL of the demo's own endpoint."""
        mine = self.system.post("webhooks/list", {})["webhooks"]
        found = next(it for it in mine if it["url"].startswith("http://127.0.0.1"))
        return found["id"], found["url"]

    def test_an_endpoint_is_pinged_and_a_delivery_is_looked_at_and_resent(self):
        endpoint, url = self.receiver()
        context = self.context()
        page = context.new_page()
        self.sign_in(page)
        page.goto(f"{self.system.url}/dashboard/webhooks/{endpoint}")
        page.locator(".title").get_by_text("Healthy").wait_for()
        page.get_by_role("button", name="Send a test ping").click()
        # The page is live: what came of the ping arrives without a click.
        page.locator("#ping").get_by_text("accepted").wait_for(timeout=20_000)
        page.get_by_role("link", name="All deliveries").click()
        page.get_by_role("link", name="Delivered", exact=True).click()
        page.locator("main table a").filter(has_text="balance.success").first.click()
        body = page.locator("section[aria-labelledby=request] pre").last.text_content()
        self.assertEqual(json.loads(body)["method"], "BALANCE")
        sent = page.locator("section[aria-labelledby=request] pre").first.text_content()
        self.assertIn(f"POST {url}", sent)
        self.assertIn("webhook-id: evt_", sent)
        attempts = page.locator("section[aria-labelledby=attempts] tbody tr")
        before = attempts.count()
        page.get_by_role("button", name="Resend").click()
        attempts.nth(before).wait_for(timeout=20_000)
        self.assertEqual(context.complaints, [])

    def test_an_endpoint_that_is_down_is_parked_and_replays_are_watched(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            nobody = probe.getsockname()[1]
        endpoint = self.endpoint(f"http://127.0.0.1:{nobody}/hook")
        self.addCleanup(self.system.post, "webhooks/remove", {"id": endpoint})
        page = self.context().new_page()
        self.sign_in(page)
        page.goto(f"{self.system.url}/dashboard/webhooks/{endpoint}")
        page.get_by_label("Which").select_option("all")
        page.get_by_role("button", name="Replay", exact=True).click()
        replays = page.locator("section[aria-label=Replays]")
        replays.get_by_text("Done").wait_for(timeout=30_000)
        self.assertGreater(int(replays.locator("td.number").first.text_content()), 9)
        page.locator(".title").get_by_text("Parked").wait_for(timeout=30_000)
        health = page.locator("section[aria-labelledby=health]")
        self.assertIn("Next probe", health.text_content())
        self.assertIn("no connection", health.text_content())
        health.locator("dd a").first.click()
        page.locator("main table").get_by_text("Parked").first.wait_for()
        page.goto(f"{self.system.url}/dashboard/webhooks")
        self.assertIn("probe in", page.locator("main table").text_content())
        page.goto(f"{self.system.url}/dashboard/webhooks/{endpoint}")
        page.get_by_role("button", name="Disable").click()
        page.locator(".title").get_by_text("Disabled").wait_for()
        page.get_by_role("button", name="Enable and send what is parked").click()
        page.locator(".title").get_by_text("Disabled").wait_for(state="detached")
        # One that takes its time is cancelled, and goes on.
        asked = {"id": endpoint, "which": "all", "rate": 1, "since": self.yesterday(), "until": "2099-01-01"}
        slow = self.system.post("webhooks/replay", asked)
        page.goto(f"{self.system.url}/dashboard/webhooks/{endpoint}")
        page.get_by_role("button", name="Cancel").click()
        replays.get_by_text("Cancelled").wait_for()
        told = self.system.post("webhooks/replay/get", {"id": slow["id"]})
        self.assertEqual(told["state"], "cancelled")
        page.get_by_role("button", name="Resume").click()
        page.get_by_role("button", name="Cancel").wait_for()

    @staticmethod
    def yesterday():
        at = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
        return at.strftime("%Y-%m-%dT%H:%M:%SZ")

    def test_an_endpoint_is_told_of_what_it_is_set_to(self):
        endpoint = self.endpoint("https://app.example/filtered")
        self.addCleanup(self.system.post, "webhooks/remove", {"id": endpoint})
        page = self.context().new_page()
        self.sign_in(page)
        page.goto(f"{self.system.url}/dashboard/webhooks/{endpoint}")
        page.get_by_label("Reference").check()
        page.get_by_label("Balances", exact=True).uncheck()
        page.locator("summary").click()
        page.get_by_label("record.token_required").check()
        page.get_by_label("Events a second").fill("7")
        page.get_by_role("button", name="Save").click()
        page.wait_for_load_state()
        shown = {it["id"]: it for it in self.system.post("webhooks/list", {})["webhooks"]}[endpoint]
        self.assertEqual(shown["payload"], "reference")
        self.assertEqual(shown["products"], ["transactions"])
        self.assertEqual(shown["events"], ["record.token_required"])
        self.assertEqual(shown["rate"], 7)
        self.assertTrue(page.get_by_label("record.token_required").is_checked())

    def test_a_secret_key_is_made_and_revoked(self):
        context = self.context()
        page = context.new_page()
        self.sign_in(page)
        page.goto(f"{self.system.url}/dashboard/keys")
        page.get_by_role("button", name="Create a new key").click()
        key = page.text_content("#secret-text")
        self.assertTrue(key.startswith("okra_sk_"), key)
        other = self.context().new_page()
        self.sign_in(other, key)
        self.assertEqual(other.url, f"{self.system.url}/dashboard")
        page.get_by_role("link", name="To the keys").click()
        self.assertNotIn(key, page.content())
        page.get_by_role("button", name=f"Revoke the key that ends in {key[-4:]}").click()
        page.wait_for_load_state()
        self.assertNotIn(key[-4:], page.locator("section[aria-labelledby=secret-keys]").text_content())
        # Its sessions end with it.
        other.goto(f"{self.system.url}/dashboard")
        self.assertIn("/dashboard/sign-in", other.url)

    def test_numbers_lead_to_the_lists_behind_them(self):
        page = self.context().new_page()
        self.sign_in(page)
        for figure in page.locator(".figures a").all():
            name = figure.locator(".name").text_content()
            address = figure.get_attribute("href")
            self.assertTrue(address, name)
            if address.startswith("/"):
                status = page.request.get(f"{self.system.url}{address}").status
                self.assertEqual(status, 200, name)
        active = page.locator(".figures a", has_text="Active")
        number = int(active.locator(".value").text_content())
        active.click()
        page.get_by_role("heading", name="Records", exact=True).wait_for()
        self.assertEqual(page.locator("main tbody tr").count(), number)
        # What was counted for the app is its own.
        page.goto(f"{self.system.url}/dashboard")
        eventually("refreshes are counted", lambda: self.counted(page) > 0)

    def counted(self, page):
        page.reload()
        return int(page.locator("section[aria-labelledby=cost] dd").last.text_content().replace(",", ""))

    def test_whether_a_bank_is_down_is_shown(self):
        # The last of all by its name: a circuit stays open for half a minute and more. Eight records in a
        # row that find the bank down open it.
        records = [it["record"] for it in self.system.demo["customers"]]
        self.system.control("PUT", "faults", {"outage": "unavailable"})
        self.addCleanup(self.system.control, "PUT", "faults", {})
        page = self.context().new_page()
        self.sign_in(page)

        # A few that find it down are trouble; eight in a row are an outage.
        self.system.try_post("customers/retry", {"record_id": records[0], "wait": True})
        page.goto(f"{self.system.url}/dashboard/banks")
        page.locator("main table").get_by_text("Degraded").first.wait_for()
        _, frame = self.embed(self.context())
        frame.get_by_text("Some problems now").first.wait_for()

        def look():
            for record in records:
                # A bank that is down answers 503, and at once where its circuit is open.
                self.system.try_post("customers/retry", {"record_id": record})
            page.goto(f"{self.system.url}/dashboard/banks")
            return page.locator("main table").get_by_text("Down", exact=True).count()

        eventually("a bank's circuit opens", look)
        self.assertIn("next probe in", page.locator("main table").text_content())
        for device, viewport in (("phone", PHONE), ("desktop", DESKTOP)):
            for scheme in ("light", "dark"):
                context = self.context(viewport, scheme)
                shown, frame = self.embed(context)
                frame.get_by_text("Down now").first.wait_for()
                self.assertTrue(frame.get_by_role("button", name="Down now").first.is_disabled())
                self.examine(shown, "widget-down", device, scheme, frame=shown.frames[1])
                self.sign_in(shown)
                shown.goto(f"{self.system.url}/dashboard/banks")
                self.examine(shown, "banks-down", device, scheme)
                record = self.system.demo["customers"][0]["record"]
                shown.goto(f"{self.system.url}/dashboard/records/{record}")
                self.assertIn("Down", shown.locator("section[aria-labelledby=state] dl").text_content())
                self.examine(shown, "record-down", device, scheme)

    # --- every page ------------------------------------------------------------------------

    def dashboard_pages(self):
        """Paths of the dashboard's pages by their names."""
        record = self.system.demo["customers"][1]["record"]
        endpoint, url = self.receiver()
        query = urllib.parse.urlencode({"url": url})
        log = self.system.post("webhooks/deliveries", {"url": url})["deliveries"]
        event = next(it["event_id"] for it in log if not it["event_id"].startswith("evt_app"))
        return {
            "overview": "",
            "records": "/records",
            "record": f"/records/{record}",
            "record-older": f"/records/{record}?before=3&below=2020-01-01",
            "change": f"/records/{record}/changes/1",
            "nothing": "/records?q=nobody-of-that-name",
            "nothing-fails": "/records?failing=internal",
            "webhooks": "/webhooks",
            "endpoint": f"/webhooks/{endpoint}",
            "deliveries": f"/deliveries?{query}",
            "no-deliveries": f"/deliveries?{query}&state=exhausted",
            "delivery": f"/deliveries/{event}?{query}",
            "event": f"/events/{event}",
            "banks": "/banks",
            "keys": "/keys",
            "not-found": f"/records/{'0' * 24}",
        }

    def short_link(self):
        return self.system.post("links/new", {"name": "Loans & Co"})["link"]["url"]

    def test_every_page_is_accessible_and_narrow(self):
        pages, link = self.dashboard_pages(), self.short_link()
        for device, viewport in (("phone", PHONE), ("desktop", DESKTOP)):
            for scheme in ("light", "dark"):
                context = self.context(viewport, scheme)
                page = context.new_page()
                page.goto(f"{self.system.url}/dashboard")
                self.examine(page, "sign-in", device, scheme)
                self.sign_in(page, "okra_sk_0000")
                self.examine(page, "sign-in-refused", device, scheme)
                self.sign_in(page)
                for name, path in pages.items():
                    page.goto(f"{self.system.url}/dashboard{path}")
                    self.examine(page, name, device, scheme)
                page.goto(f"{self.system.url}/dashboard/webhooks")
                page.get_by_role("button", name="Show the secret").click()
                self.examine(page, "secret", device, scheme)
                page.goto(f"{self.system.url}/dashboard/webhooks")
                page.fill("input[name=url]", "https://10.0.0.1/hook")
                page.get_by_role("button", name="Add endpoint").click()
                self.assertIn("must name a host, not an IP address", page.text_content("main"))
                self.examine(page, "endpoint-refused", device, scheme)
                self.set_origins(page, "app.example/path")
                self.assertIn("app.example/path is not an origin", page.text_content("main"))
                self.examine(page, "origins-refused", device, scheme)
                # What was entered is still there.
                page.get_by_role("link", name="Back to the form").click()
                page.wait_for_url("**/dashboard/keys")
                self.assertEqual(page.input_value("#origin-list"), "app.example/path")
                page.goto(f"{self.system.url}/dashboard/keys")
                page.get_by_role("button", name="Create a new key").click()
                hint = page.text_content("#secret-text")[-4:]
                self.examine(page, "new-key", device, scheme)
                page.get_by_role("link", name="To the keys").click()
                self.examine(page, "keys-several", device, scheme)
                page.get_by_role("button", name=f"Revoke the key that ends in {hint}").click()
                page.wait_for_load_state()
                page.goto(f"{self.system.url}/widget/callback?state=x")
                self.examine(page, "callback", device, scheme)
                page.goto(f"{self.system.url}/widget")
                page.get_by_role("heading", name="This does not work").wait_for()
                self.examine(page, "widget-alone", device, scheme)
                page.goto(link)
                page.get_by_role("heading", name="Choose your bank").wait_for()
                self.examine(page, "link", device, scheme)
                page.get_by_role("button", name="Close").click()
                page.get_by_role("heading", name="Closed").wait_for()
                self.examine(page, "link-closed", device, scheme)
                page.goto(f"{self.system.url}/link/nothing000")
                self.examine(page, "link-unknown", device, scheme)
                self.assertEqual(context.complaints, [])
                self.examine_widget(viewport, scheme, device)
                self.examine_refusals(viewport, scheme, device)

    def examine_refusals(self, viewport, scheme, device):
        """What the widget shows where it does not go on."""
        context = self.context(viewport, scheme)
        page, frame = self.embed(context, {"key": "0000"})
        look = lambda name: self.examine(page, f"widget-{name}", device, scheme, frame=page.frames[1])
        frame.get_by_role("heading", name="This does not work").wait_for()
        look("unknown-key")
        page, frame = self.embed(context)
        frame.get_by_label("Search").fill("no bank of this name")
        frame.get_by_text("No bank of that name").wait_for()
        look("no-bank")
        frame.get_by_label("Search").fill("")
        frame.get_by_role("button", name="Access Bank").click()
        with page.expect_popup() as opened:
            frame.get_by_role("button", name="Continue to").click()
        opened.value.get_by_role("button", name="Cancel").click()
        frame.get_by_text("did not let you in, or you cancelled").wait_for()
        look("cancelled")
        self.closes(opened.value)
        bank = self.log_in(page, frame, "new")
        bank.get_by_role("button", name="Allow").click()
        frame.get_by_role("heading", name="Choose your accounts").wait_for()
        self.closes(bank)
        for box in frame.get_by_role("checkbox").all():
            box.uncheck()
        frame.get_by_role("button", name="Share and continue").click()
        frame.get_by_text("Choose at least one account").wait_for()
        look("no-account")
        frame.get_by_role("checkbox").first.check()
        self.system.control("PUT", "faults", {"outage": "unavailable"})
        frame.get_by_role("button", name="Share and continue").click()
        frame.get_by_role("heading", name="It could not be linked").wait_for()
        frame.get_by_text("unavailable at the moment").wait_for()
        self.assertIn("bank could not be read", self.said(page, "error")["message"])
        self.system.control("PUT", "faults", {})
        look("not-linked")
        page, frame = self.embed(context)
        frame.get_by_role("heading", name="Choose your bank").wait_for()
        forged = lambda route: route.continue_(headers={**route.request.headers, "x-okra-link": "gone"})
        page.route("**/widget/step", forged)
        frame.get_by_role("button", name="Access Bank").click()
        frame.get_by_role("heading", name="This has ended").wait_for()
        look("ended")

    def examine_widget(self, viewport, scheme, device):
        context = self.context(viewport, scheme)
        page, frame = self.embed(context)

        def look(name, heading):
            frame.get_by_role("heading", name=heading).wait_for()
            self.examine(page, f"widget-{name}", device, scheme, frame=page.frames[1])

        look("banks", "Choose your bank")
        frame.get_by_role("button", name="Guaranty Trust Bank").click()
        look("consent", "What you agree to")
        with page.expect_popup() as opened:
            frame.get_by_role("button", name="Continue to").click()
        bank = opened.value
        bank.set_viewport_size(viewport)
        bank.get_by_role("heading", name="Log in").wait_for()
        self.examine(bank, "bank-login", device, scheme)
        look("at-bank", "Log in at Guaranty Trust Bank")
        bank.fill("#username", "mfa")
        bank.fill("#password", "sandbox")
        bank.click("button.main")
        bank.get_by_role("heading", name="Enter the code").wait_for()
        self.examine(bank, "bank-code", device, scheme)
        bank.fill("#code", "123456")
        bank.click("button.main")
        bank.get_by_role("heading", name="Allow access").wait_for()
        self.examine(bank, "bank-allow", device, scheme)
        bank.get_by_role("button", name="Allow").click()
        look("accounts", "Choose your accounts")
        frame.get_by_role("button", name="Share and continue").click()
        look("success", "Account linked")
        self.assertEqual(context.complaints, [])

    def examine(self, page, name, device, scheme, frame=None):
        """Accessible, and not wider than the screen; a picture where asked for."""
        page.wait_for_load_state("load")
        frame = frame or page.main_frame
        where = f"{name} ({device}, {scheme})"
        if self.shots:
            folder = pathlib.Path(self.shots)
            folder.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=folder / f"{name}-{device}-{scheme}.png", full_page=True)
        with self.subTest(where):
            wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            self.assertLessEqual(frame.evaluate(wide), 0, "wider than the screen")
            # Injected by the debugger: the page's own policy would not let it in.
            run = "axe.run(document).then((done) => done.violations.map((it) => it.id + ': ' + it.nodes.map((node) => node.target).join('; ')))"
            found = frame.evaluate(f"() => {{ {self.axe}; return {run}; }}")
            self.assertEqual(found, [])

    def test_every_page_is_light_asks_once_and_has_nothing_inline(self):
        url = self.system.url
        pages = {name: f"{url}/dashboard{path}" for name, path in self.dashboard_pages().items()}
        pages |= {
            "sign-in": f"{url}/dashboard/sign-in",
            "link": self.short_link(),
            "link-unknown": f"{url}/link/nothing000",
            "callback": f"{url}/widget/callback?state=x",
            "frame": f"{url}/?isIframe=true&withOptions=true&key={self.keys['key']}",
            "widget": f"{url}/widget",
        }
        signed, nobody = self.context(), self.context()
        first = signed.new_page()
        self.sign_in(first)
        first.close()
        for name, address in pages.items():
            with self.subTest(name):
                context = nobody if name == "sign-in" else signed
                page = context.new_page()
                network = context.new_cdp_session(page)
                network.send("Network.enable")
                # With an empty cache, all that a page needs weighs less than it may.
                network.send("Network.setCacheDisabled", {"cacheDisabled": True})
                cold = self.watch(network)
                answer = page.goto(address)
                files = self.parts(page, cold)
                self.assertGreater(len(files), 1)
                weight = sum(cold["bytes"].get(it, 0) for it in cold["asked"])
                self.assertGreater(weight, 1000)
                self.assertLess(weight, MAX_PAGE_BYTES)
                # With a warm one it is asked for alone.
                network.send("Network.setCacheDisabled", {"cacheDisabled": False})
                filling = self.watch(network)
                page.goto(address)
                self.parts(page, filling)
                warm = self.watch(network)
                page.goto(address)
                self.assertEqual(self.parts(page, warm), files)
                sent = [it for name, it in warm["asked"].items() if name not in warm["cached"]]
                self.assertEqual(sent, [address])
                policy = answer.headers["content-security-policy"]
                self.assertIn("default-src 'none'; script-src 'self'; style-src 'self';", policy)
                self.assertNotIn("unsafe", policy)
                inline = page.evaluate(
                    """() => [...document.querySelectorAll('*')].flatMap((it) => [
                        ...it.getAttributeNames().filter((name) => name.startsWith('on') || name === 'style'),
                        ...(it.matches('script:not([src]),style') ? [it.tagName] : [])])"""
                )
                self.assertEqual(inline, [])
                page.close()
                self.assertEqual(context.complaints, [])
        context = self.context()
        # In a page of an app: the frame, its first step, and then one call for each step.
        page, frame = self.embed(context)
        frame.get_by_role("heading", name="Choose your bank").wait_for()
        page.close()
        context.asked.clear()
        page, frame = self.embed(context)
        frame.get_by_role("heading", name="Choose your bank").wait_for()
        frame.get_by_role("button", name="Access Bank").click()
        frame.get_by_role("heading", name="What you agree to").wait_for()
        ours = [it.removeprefix(url) for it in context.asked if it.startswith(url) and "/assets/" not in it]
        ours = [it.split("?")[0] for it in ours]
        self.assertEqual(ours, ["/v2/bundle.js", "/", "/widget/begin", "/widget/step"])

    @staticmethod
    def parts(page, seen):
        """The addresses of what a page is drawn from, once each is told of: that of the load may come before them."""
        page.wait_for_load_state("load")

        def told():
            page.evaluate("null")
            return seen["asked"].keys() <= seen["bytes"].keys()

        eventually("every file is told of", told)
        return set(seen["asked"].values())

    @staticmethod
    def watch(network):
        """What a page asks for from now on to be drawn: addresses, bytes, and what its cache had. What is
        listened to, or sent by a script once the page is there, is not of it, nor the icon of the tab ("Other"), which the
        browser fetches in its own time or leaves when the page goes."""
        seen = {"asked": {}, "bytes": {}, "cached": set()}
        late = ("EventSource", "Fetch", "Other", "XHR")
        network.on(
            "Network.requestWillBeSent",
            lambda it: seen["asked"].update({it["requestId"]: it["request"]["url"]}) if it["type"] not in late else None,
        )
        network.on("Network.requestServedFromCache", lambda it: seen["cached"].add(it["requestId"]))
        network.on(
            "Network.responseReceived",
            lambda it: seen["cached"].add(it["requestId"]) if it["response"].get("fromDiskCache") else None,
        )
        network.on(
            "Network.loadingFinished",
            lambda it: seen["bytes"].update({it["requestId"]: it["encodedDataLength"]}),
        )
        return seen


if __name__ == "__main__":
    unittest.main()
