"""tshark on a short leash: absent, hanging, talkative, broken."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from auditor.errors import InputError, MissingToolError
from auditor.tshark import _process


def fake(folder: Path, script: str) -> Path:
    """A program named tshark that does as it is told."""
    path = folder / "tshark"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def running(folder: Path, script: str, seconds: float = 20, max_bytes: int = 10_000) -> _process.Run:
    return _process.Run(
        [str(fake(folder, script))],
        about="x.pcap",
        seconds=seconds,
        max_bytes=max_bytes,
        env=_process.environment(folder),
        cwd=folder,
    )


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_where_there_is_none_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match=r"tshark is not installed.*apt-get install tshark"):
        _process.find()


def test_a_program_of_that_name_that_is_another(tmp_path):
    with pytest.raises(MissingToolError, match="does not say its version"):
        _process.version(str(fake(tmp_path, "echo hello")))
    with pytest.raises(MissingToolError, match="does not start"):
        _process.version(str(tmp_path / "gone"))


def test_version(tshark):
    assert _process.version(tshark)[0].isdigit()


def test_the_environment_holds_neither_home_nor_key_log(monkeypatch, tmp_path):
    monkeypatch.setenv("SSLKEYLOGFILE", "/keys/planted")
    monkeypatch.setenv("HOME", "/home/planted")
    monkeypatch.setenv("WIRESHARK_CONFIG_DIR", "/home/planted/.wireshark")
    with running(tmp_path, "env") as run:
        said = b"".join(run.lines()).decode()
    assert "planted" not in said
    assert f"HOME={tmp_path}" in said
    assert "SSLKEYLOGFILE" not in said


def test_one_that_hangs_is_ended_with_all_it_started(tmp_path):
    begun = time.monotonic()
    with (
        pytest.raises(InputError, match=r"x\.pcap: tshark did not finish in 0\.5 s"),
        running(tmp_path, "sleep 60 &\necho $!\nwait", seconds=0.5) as run,
    ):
        child = 0
        for line in run.lines():
            child = int(line)
    assert time.monotonic() - begun < 10
    assert child
    deadline = time.monotonic() + 5
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)


def test_one_that_hangs_after_it_closed_its_output(tmp_path):
    with (
        pytest.raises(InputError, match="did not finish"),
        running(tmp_path, "exec 1>&-\nsleep 60", seconds=0.5) as run,
    ):
        list(run.lines())


def test_one_that_talks_without_end_is_heard_so_far(tmp_path):
    with running(tmp_path, "yes 0123456789", max_bytes=1_000) as run:
        said = b"".join(run.lines())
        assert run.full
    assert 900 <= len(said) <= 1_000


def test_a_flood_of_errors_does_not_block_it(tmp_path):
    with running(
        tmp_path, "i=0; while [ $i -lt 20000 ]; do echo 'tshark: noise' >&2; i=$((i+1)); done; echo done"
    ) as run:
        assert list(run.lines()) == [b"done\n"]
        assert run.complaint() == "noise"


def test_what_it_complains_of_is_one_line():
    said = b'Running as user "root" and group "root". This could be dangerous.\ntshark: The file "x" isn\'t a capture file.\nmore\n'
    assert _process.complaint(said) == 'The file "x" isn\'t a capture file'
    assert _process.complaint(b"") == ""


def test_how_it_ended(tmp_path):
    assert _process.judge(Path("a.pcap"), 0, "", anything=False) is None
    cut = 'The file "a.pcap" appears to have been cut short in the middle of a packet'
    assert _process.judge(Path("a.pcap"), 2, cut, anything=False) == f"tshark: {cut}"
    assert _process.judge(Path("a.pcap"), -11, "", anything=True) == "tshark ended with status -11"
    with pytest.raises(InputError, match=r"a\.pcap: tshark cannot read it: not a capture"):
        _process.judge(Path("a.pcap"), 2, "not a capture", anything=False)


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir()])
def test_files_that_cannot_be_read(make, tmp_path):
    path = tmp_path / "keys"
    make(path)
    with pytest.raises(InputError, match=r"no such file|is a folder"):
        _process.readable(path)
