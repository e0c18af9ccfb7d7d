"""One pass at a time, and a dead one shuts nobody out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from auditor.errors import ConfigError
from auditor.jobs.lock import NAME, only_one
from tests.conftest import ROOT

NOW = 1_795_300_000_000_000_000


def test_a_second_one_is_told_who_has_it(tmp_path):
    with only_one(tmp_path / "s", NOW) as held:
        assert held.died is None
        with (
            pytest.raises(
                ConfigError, match=rf"another pass is running: process {os.getpid()} on .* since 2026-11-21T22:26:40Z"
            ),
            only_one(tmp_path / "s", NOW),
        ):
            pass
    with only_one(tmp_path / "s", NOW) as held:
        assert held.died is None


def test_what_a_killed_one_left_is_broken_safely(tmp_path):
    script = "import sys\nfrom auditor.jobs.lock import only_one\nfrom pathlib import Path\n"
    script += f"with only_one(Path(sys.argv[1]), {NOW}):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"process {other.pid} on"), only_one(tmp_path, NOW):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
        with only_one(tmp_path, NOW) as held:
            assert held.died is not None
            assert f"process {other.pid} on" in held.died
    finally:
        other.kill()
        other.communicate()
    assert (tmp_path / NAME).read_text() == ""


def test_one_that_failed_did_not_die(tmp_path):
    with pytest.raises(ConfigError, match="no such file"), only_one(tmp_path / "s", NOW):
        raise ConfigError("waivers.yml", "no such file")
    with only_one(tmp_path / "s", NOW) as held:
        assert held.died is None


def test_a_link_in_its_place_is_not_followed(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "precious").write_text("keep me")
    (tmp_path / "s" / NAME).symlink_to(tmp_path / "precious")
    with pytest.raises(ConfigError), only_one(tmp_path / "s", NOW):
        pass
    assert (tmp_path / "precious").read_text() == "keep me"
