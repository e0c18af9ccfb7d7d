"""Who reads what strangers wrote: not root, unless by request."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from auditor.capture.privileges import User, folder_for, user_for
from auditor.errors import ConfigError
from tests.conftest import absent


@pytest.fixture
def as_root() -> None:
    """Only root has rights to give up."""
    if os.geteuid() != 0:
        absent("giving rights up needs root")


@pytest.mark.usefixtures("as_root")
def test_root_becomes_who_called_sudo_or_nobody():
    assert user_for(None, {}).name == "nobody"
    assert user_for(None, {"SUDO_UID": "1"}).uid == 1
    assert user_for("daemon", {"SUDO_UID": "1"}).name == "daemon"
    assert user_for("root", {}) is None
    assert user_for(None, {"SUDO_UID": "0"}) is None
    with pytest.raises(ConfigError, match="unknown user 'nosuchuser'"):
        user_for("nosuchuser", {})


def test_others_stay_who_they_are(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1234567)
    assert user_for(None, {"SUDO_UID": "0"}) is None
    with pytest.raises(ConfigError, match="only root"):
        user_for("daemon", {})


@pytest.mark.usefixtures("as_root")
def test_what_was_given_up_does_not_come_back():
    """In a process of its own, which is of no other use afterwards."""
    code = """
import os, socket
from auditor.capture.live import has_net_raw
from auditor.capture.privileges import become, user_for
assert has_net_raw()
become(user_for(None, {}))
assert os.getresuid() == (65534,) * 3 and os.getresgid()[0] != 0 and 0 not in os.getgroups()
assert not has_net_raw()
for attempt in (lambda: os.setuid(0), lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3), lambda: open('/etc/shadow')):
    try:
        attempt()
    except PermissionError:
        continue
    raise SystemExit('rights came back')
print(os.environ['HOME'], os.environ['USER'])
"""
    from auditor.capture.live import has_net_raw

    if not has_net_raw():
        absent("root may not capture here: there is nothing to give up")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[1] == "nobody"


@pytest.mark.usefixtures("as_root")
def test_a_new_folder_belongs_to_whom_we_become(tmp_path):
    user = User("nobody", 65534, 65534, "/")
    folder_for(tmp_path / "new" / "reports", user)
    assert (tmp_path / "new" / "reports").stat().st_uid == 65534
    (tmp_path / "old").mkdir()
    folder_for(tmp_path / "old", user)
    assert (tmp_path / "old").stat().st_uid == os.geteuid(), "what was there is nobody else's business"
    folder_for(tmp_path / "mine", None)
    assert not (tmp_path / "mine").exists()


WRITES = """
import os, sys
from pathlib import Path
from auditor.capture.privileges import User, become, output_for
import json, codecs, stat
path, how = Path(sys.argv[1]), sys.argv[2]
with output_for(path, User("nobody", 65534, 65534, "/"), how == "folder") as target:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    if how == "folder":
        open(f"{target}/x.parquet", "wb").write(b"table")
    else:
        target.write(b"whole")
    if how == "fails":
        raise RuntimeError
"""


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("how", ["file", "folder", "fails"])
def test_a_report_goes_where_root_said_though_nobody_writes_it(tmp_path, how):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    target = closed / "report"
    if how == "folder":
        target.mkdir()
        (target / "x.parquet").write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", WRITES, str(target), how], capture_output=True, text=True, check=False)
    if how == "fails":
        assert "RuntimeError" in done.stderr
        assert list(closed.iterdir()) == []
        return
    assert done.returncode == 0, done.stderr
    written = target / "x.parquet" if how == "folder" else target
    assert written.read_bytes() == (b"table" if how == "folder" else b"whole")
    assert written.stat().st_uid == 65534
    assert [each.name for each in closed.iterdir()] == ["report"]
