"""``auditor review`` as a program: it prints its address, serves it, and ends with Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from auditor.cli import main
from auditor.store.history import open_history


def test_it_serves_until_it_is_interrupted(tmp_path):
    open_history(tmp_path / "store", write=True).close()
    command = [sys.executable, "-m", "auditor", "review", "--store", str(tmp_path / "store"), "--no-browser"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as served:
        try:
            address = served.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(address, timeout=60) as answer:  # noqa: S310  # our own address
                assert "has no audits yet" in answer.read().decode()
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(address.rsplit("/", 2)[0] + "/x/", timeout=60)  # noqa: S310
            served.send_signal(signal.SIGINT)
            assert served.wait(60) == 130
            assert served.stderr.read() == "auditor: interrupted\n"
        finally:
            served.kill()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "no store is named"),
        (["--store", "{nowhere}"], "is not a store of audits"),
        (["--store", "{store}", "--port", "70000"], "--port"),
        (["--store", "{store}", "--captures", "{nowhere}"], "is not a folder"),
        (["--store", "{store}", "--waivers", "{broken}"], "broken.yml:1"),
        (["--store", "{store}", "--keylog", "{nowhere}"], "nowhere"),
    ],
)
def test_mistakes_are_told_in_one_line(options, says, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("AUDITOR_STORE", raising=False)
    open_history(tmp_path / "store", write=True).close()
    (tmp_path / "broken.yml").write_text("waivers: 7\n")
    places = {"store": tmp_path / "store", "nowhere": tmp_path / "nowhere", "broken": tmp_path / "broken.yml"}
    assert main(["review", "--no-browser", *(option.format(**places) for option in options)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert says in err
