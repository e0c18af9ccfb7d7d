"""A review in a real browser: from the timeline to a finding, its connection, its packets, a comparison and a waiver."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import date

import pytest

from auditor.jobs.keep import rule_names
from auditor.policy.waivers import Known, load_waivers
from auditor.review.pages import Review
from auditor.review.server import Server
from auditor.store.history import open_history
from tests.browser import CONTRAST, Browser, started


@pytest.fixture(scope="module")
def browser(chromium, tmp_path_factory) -> Iterator[Browser]:
    with started(chromium, tmp_path_factory.mktemp("profile")) as window:
        window.look()
        yield window


@pytest.fixture
def opened(browser, server) -> Browser:
    browser.open(server.address)
    return browser


def follow(browser: Browser, selector: str, title: str) -> None:
    browser.find(selector).click()
    browser.wait(lambda: title in browser.driver.title, title)


@pytest.mark.usefixtures("tshark")
@pytest.mark.tshark
def test_from_the_timeline_to_the_packets_and_back(opened, server):
    assert opened.text("h1") == "Audits"
    assert len(opened.all(".chart a")) == 4
    follow(opened, '.chart a[href$="/audit/2"]', "NOT CLEAN")
    opened.ready()
    follow(opened, '#r-plaintext-critical .finding a[href*="/connection/"]', "Packets of")
    assert "cleartext" not in opened.driver.title
    assert len(opened.all(".frame")) >= 5
    assert [each.text for each in opened.all(".frame .tag") if "http" in each.text]
    opened.find(".frame summary").click()
    opened.wait(lambda: opened.find(".frame .tree").is_displayed(), "the tree")
    opened.find(".frame .tree details summary").click()
    assert opened.find(".frame .tree .in").is_displayed()
    follow(opened, '.facts a[href*="#connection="]', "NOT CLEAN")
    opened.ready()
    opened.wait(lambda: opened.text("#drawer-title") == "diego_cell to cloud_controller, 9023/tcp", "the connection")
    follow(opened, "#drawer .packets a", "Packets of")
    assert opened.driver.current_url.startswith(server.address)
    assert opened.complaints() == []


def test_open_findings_lead_to_where_they_were_seen_last(opened):
    follow(opened, 'tbody a[href*="/audit/2#F-"]', "NOT CLEAN")
    opened.ready()
    assert opened.run("return document.querySelector('details:target')?.open") is True
    assert opened.complaints() == []


def test_its_first_page_and_the_comparison_fit_a_telephone_and_paper(browser, server):
    """400 pixels: nothing leads out of the page sideways, and each value of a row says what it is."""
    browser.look(width=400, height=860)
    try:
        for place in ("", "compare?before=3&after=2"):
            browser.open(server.address + place)
            assert browser.run("return document.documentElement.scrollWidth") <= 400
        browser.open(server.address)
        wide = "return [...document.querySelectorAll('main *')].filter(e => e.checkVisibility() && !e.closest('svg, thead') && e.getBoundingClientRect().right > 400).length"
        assert browser.run(wide) == 0
        label = "return getComputedStyle(document.querySelector(arguments[0]), '::before').content"
        assert browser.run(label, "tbody td.m") == '"First seen"'
        assert {browser.run(label, f"[aria-label='All audits'] tbody td:nth-child({at})") for at in (2, 5, 6, 9)} == {
            '"Captured"', '"Connections"', '"Findings"', '"Complete"'
        }  # fmt: skip
        browser.look(width=703, height=1000)  # A4 without its margins
        browser.command("Emulation.setEmulatedMedia", media="print")
        assert not browser.find("form.inline").is_displayed()
        assert browser.run("return document.documentElement.scrollWidth") <= 703
    finally:
        browser.look()


def test_two_audits_compared(opened):
    opened.run(
        "document.querySelector('select[name=before]').value = '3'; document.querySelector('select[name=after]').value = '2'"
    )
    follow(opened, "form.inline button", "Comparison")
    assert "42" in opened.text("#new h2")
    assert "undeclared-connection" in opened.text("#new")
    for capture in ("healthy.pcap", "diego.pcapng"):
        assert f"{capture}, captured 20" in opened.text("main .facts")
    assert opened.find("#new").get_attribute("open") is not None
    follow(opened, 'nav a[href$="/compare"]', "Comparison")
    assert opened.complaints() == []


def test_a_waiver_is_tried_and_written(opened, server, review):
    follow(opened, '.chart a[href$="/audit/2"]', "NOT CLEAN")
    opened.ready()
    follow(opened, '#r-plaintext-critical a[href$="/waiver"]', "Waiver")
    told = {
        name: opened.find(f"[name={name}]").get_attribute("value") for name in ("from", "to", "port", "path", "expires")
    }
    assert told == {
        "from": "diego_cell",
        "to": "cloud_controller",
        "port": "9023",
        "path": "rep-to-cc",
        "expires": "2027-02-20",
    }
    for name, text in (("reason", "<b>IPsec</b> protects it"), ("owner", "ops"), ("ticket", "OPS-7")):
        opened.find(f"[name={name}]").send_keys(text)
    opened.find("button[value=try]").click()
    opened.wait(lambda: "It would cover 1 finding of this audit" in opened.text("main"), "what it would cover")
    assert not review.waivers.exists()
    assert "<b>IPsec</b>" in opened.text("pre")
    opened.find("button[value=write]").click()
    opened.wait(lambda: "Added to" in opened.text("main"), "the waiver to be written")
    [made] = load_waivers([str(review.waivers)], Known(rule_names())).entries
    assert (made.model.rule, made.model.reason, made.model.expires) == (
        "plaintext",
        "<b>IPsec</b> protects it",
        date(2027, 2, 20),
    )
    assert opened.complaints() == []


def test_a_waiver_that_is_none_says_why_and_keeps_what_was_filled_in(review):
    with open_history(review.store) as history:
        name = review.audit(history, history.find("2")).findings["id"].iloc[0]
    form = {
        "from": "diego_cell",
        "reason": "because",
        "owner": "",
        "ticket": "t",
        "expires": "2027-01-01",
        "do": "write",
    }
    answer = review.answer(f"/audit/2/finding/{name}/waiver", {}, form, "/t")
    assert answer.status == 422
    assert b'role="alert"' in answer.body
    assert b'value="because"' in answer.body
    assert not review.waivers.exists()
    for wrong in (
        {"expires": "soon"},
        {"max_findings": "many"},
        {"port": "http"},
        {"from": "", "to": ""},
        {"from": "diego_cel"},
        {"path": "rep-to-c"},
    ):
        answer = review.answer(f"/audit/2/finding/{name}/waiver", {}, {**form, "owner": "o", **wrong}, "/t")
        assert answer.status == 422, wrong


def test_without_a_file_a_waiver_is_shown_alone(store):
    shown = Review(store=store, today=lambda: date(2026, 11, 22))
    with open_history(store) as history:
        name = shown.audit(history, history.find("2")).findings["id"].iloc[0]
    form = {"from": "diego_brain", "reason": "r", "owner": "o", "ticket": "t", "expires": "2027-01-01", "do": "write"}
    body = shown.answer(f"/audit/2/finding/{name}/waiver", {}, form, "/t").body.decode()
    assert "rule: missing-client-certificate" in body
    assert "Start auditor review with --waivers FILE" in body
    assert "Written" not in body


def test_hostile_names_stay_names(browser, server):
    """The fourth audit is of strangers who chose their names with care."""
    with open_history(server.review.store) as history:
        names = server.review.audit(history, history.find("4")).connections["id"].tolist()
    for path in ("audit/4", f"audit/4/connection/{names[9]}", "audit/4/finding/f01/waiver", "compare?before=3&after=4"):
        browser.open(server.address + path)
        assert browser.run("return [...document.querySelectorAll('script:not([type=\"text/plain\"])')].length") <= 2
        assert browser.driver.title != "owned"
        text = browser.run("return document.body.textContent")
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert browser.complaints() == []


def test_an_empty_store_says_how_to_fill_it(browser, tmp_path):
    open_history(tmp_path / "empty", write=True).close()
    with Server(Review(store=tmp_path / "empty", today=lambda: date(2026, 11, 22))) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            browser.open(served.address)
            assert "has no audits yet" in browser.text("main")
        finally:
            served.shutdown()
            thread.join()


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_can_be_read(opened, server, dark):
    opened.look(dark=dark)
    try:
        for path in ("", "compare?before=3&after=2", "audit/2/finding/x/waiver"):
            opened.open(server.address + path)
            assert [each for each in opened.run(CONTRAST) if each[0] < 4.5] == []
    finally:
        opened.look()
