"""The evidence bundle of a finding, from its page: whole, redacted, from captures that were moved, and none where one is gone or another."""

from __future__ import annotations

import http.client
import io
import json
import shutil
import zipfile
from pathlib import Path

import pytest

from auditor.cli import main
from auditor.review import pages
from auditor.review.packets import Library
from tests.conftest import ROOT
from tests.review.test_server import ask, finding

SAMPLE = ROOT / "captures" / "sample" / "diego.pcapng"


@pytest.fixture
def place(server, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return f"{server.base}/audit/2/finding/{finding(server.review)}"


def download(server, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=120)
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def captures_of(review):
    with pages.open_history(review.store) as history:
        return [Path(each) for each in review.audit(history, history.find("2")).captures["path"]]


def test_the_page_of_a_finding_leads_to_its_bundle(server, place):
    _, _, report = ask(server, f"{server.base}/audit/2")
    assert f'href="{place}/bundle"' in report
    status, _, text = ask(server, f"{place}/bundle")
    assert status == 200
    assert "there, unchanged" in text
    assert 'href="bundle.zip"' in text
    assert 'href="bundle.zip?redact=yes"' in text


@pytest.mark.parametrize(("query", "status", "redacted"), [("", 0, False), ("?redact=yes", 4, True)])
def test_a_bundle_is_verified_and_holds_against_its_capture(server, place, tmp_path, query, status, redacted):
    answer, headers, body = download(server, f"{place}/bundle.zip{query}")
    assert (answer, headers["Content-Type"]) == (200, "application/zip")
    name = f"audit-2-{finding(server.review)}{'-redacted' if redacted else ''}.zip"
    assert headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert headers["Cache-Control"] == "no-store"
    out = tmp_path / name
    out.write_bytes(body)
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        verdict = json.loads(archive.read("verdict.json"))
    assert verdict["redacted"] is redacted
    assert [each["id"] for each in verdict["findings"]] == [finding(server.review)]
    assert main(["slice", "--verify", str(out), "--against", str(SAMPLE)]) == status


def test_a_capture_that_was_moved_is_found_and_named_as_it_was(server, place, tmp_path):
    [was] = captures_of(server.review)
    away = tmp_path / "away"
    away.mkdir()
    hidden = was.rename(was.with_name("hidden"))
    try:
        shutil.copy(hidden, away / was.name)
        server.review.originals = Library((away,))
        status, _, body = download(server, f"{place}/bundle.zip")
        assert status == 200
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            verdict = json.loads(archive.read("verdict.json"))
        assert [each["path"] for each in verdict["captures"]] == [was.name]
        assert {capture for capture, _ in verdict["frames"]} == {0}
    finally:
        hidden.rename(was)


@pytest.mark.parametrize(
    ("content", "says"), [(None, "not found"), (b"another", "the file was replaced (its SHA-256 differs)")]
)
def test_without_the_capture_there_is_no_bundle_and_the_page_says_why(server, place, content, says):
    [was] = captures_of(server.review)
    hidden = was.rename(was.with_name("hidden"))
    try:
        if content is not None:
            was.write_bytes(content)
        status, _, text = ask(server, f"{place}/bundle")
        assert status == 200
        assert says in text
        assert "bundle.zip" not in text
        status, headers, text = ask(server, f"{place}/bundle.zip")
        assert (status, headers["Content-Type"]) == (409, "text/html; charset=utf-8")
        assert says in text
    finally:
        hidden.replace(was)


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Sec_Fetch_Site": "cross-site"}, {"Host": "evil.example"}],
)
def test_another_site_gets_no_bundle(server, place, headers):
    assert ask(server, f"{place}/bundle.zip", **headers)[::2] == (403, "403 Forbidden\n")
    assert ask(server, f"{place}/bundle.zip".replace(server.token, "x" * 32))[0] == 403
    assert ask(server, f"{server.base}/audit/2/finding/ffff/bundle.zip")[0] == 404
    assert ask(server, f"{place}/bundle.zip", method="POST", body="a=b")[0] == 404
