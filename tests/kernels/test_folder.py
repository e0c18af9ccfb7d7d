"""Machine code is made once and shared safely."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from auditor.kernels import _folder
from tests.conftest import ROOT

CODE = """
import sys, numpy as np
from auditor.kernels.flowkey import sha1_rows
sha1_rows(np.zeros((1, 64), np.uint8), np.zeros(1, np.int64), np.zeros((1, 20), np.uint8))
print("numba" in sys.modules)
"""


def begin(cache, temporary, code=CODE):
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(cache),
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(temporary),
        "HOME": str(temporary),
    }
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)


def ended(process):
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    return out


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A cache that three filled who started at once; which of them compiled."""
    cache, temporary = (tmp_path_factory.mktemp(name) for name in ("cache", "temporary"))
    return cache, temporary, [ended(each) for each in [begin(cache, temporary) for _ in range(3)]]


def test_several_first_runs_at_once_compile_once(made):
    cache, temporary, told = made
    assert sorted(told) == ["False\n", "False\n", "True\n"]
    [folder] = cache.iterdir()
    assert [each.suffix for each in folder.iterdir()] == [".o"], "no lock is left"
    assert list(temporary.iterdir()) == []


NOBODY = """
import codecs, os, sys, numpy as np
from auditor.kernels import accelerate, _folder, flowkey
codecs.lookup("ascii")  # what the interpreter may not be able to read afterwards
os.setgroups([])
os.setuid(65534)
accelerate._FOLDERS = _folder.read_folders()
flowkey.sha1_rows(np.zeros((1, 64), np.uint8), np.zeros(1, np.int64), np.zeros((1, 20), np.uint8))
print("numba" in sys.modules)
"""


def test_what_root_compiled_is_read_by_who_may_not_write_it(made, tmp_path):
    cache, _, _ = made
    if os.geteuid():
        pytest.skip("needs root")
    for each in (cache, *cache.parents):
        if each.stat().st_uid == 0 and len(each.parts) > 2:
            each.chmod(0o755)
    [folder] = cache.iterdir()
    files = {each.name for each in folder.iterdir()}
    assert all(each.stat().st_mode & 0o777 == 0o644 for each in folder.iterdir())
    assert ended(begin(cache, tmp_path, NOBODY)) == "False\n"
    assert {each.name for each in folder.iterdir()} == files
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_kept_nothing_is_left_behind(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    assert ended(begin(file / "cache", temporary)) == "True\n"
    assert list(temporary.iterdir()) == []


def test_a_folder_that_everybody_may_write_to_is_not_loaded_from(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    mine = _folder.writing_folder()
    assert mine is not None
    assert _folder.read_folders() == (mine,)
    mine.chmod(0o777)
    assert _folder.read_folders() == ()
    assert _folder.writing_folder() is None
    mine.chmod(0o755)
    assert _folder.known_folder() == (mine, True)


def test_nothing_is_loaded_that_others_may_write_or_put_in_its_place(tmp_path, monkeypatch):
    """Also in a folder that is shared, as /tmp is: the file itself is looked at, as it was opened."""
    file = tmp_path / "code"
    file.write_bytes(b"code")
    file.chmod(0o644)
    assert _folder.read_trusted(file) == b"code"
    for mode in (0o664, 0o646, 0o666):
        file.chmod(mode)
        assert _folder.read_trusted(file) is None
    file.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(file)
    assert _folder.read_trusted(link) is None, "where it leads may change"
    assert _folder.read_trusted(tmp_path) is None
    assert _folder.read_trusted(tmp_path / "absent") is None
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert _folder.read_trusted(pipe) is None, "and nothing waits for it"
    monkeypatch.setattr(_folder, "_owners", lambda: (12_345,))
    assert _folder.read_trusted(file) is None, "somebody else's"


def test_a_folder_is_made_for_its_owner_alone_to_write_whatever_the_umask(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "shared"))
    before = os.umask(0)
    try:
        mine = _folder.writing_folder()
    finally:
        os.umask(before)
    assert mine is not None
    assert mine.stat().st_mode & 0o022 == 0
    mine.chmod(0o775)
    assert _folder.read_folders() == ()


def test_what_is_missing_beside_the_program_is_kept_by_the_user(tmp_path, monkeypatch):
    """Two places: one that cannot be written to is read all the same."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    shared, mine = tmp_path / "shared", tmp_path / "mine"
    monkeypatch.setattr(_folder, "_places", lambda: [shared, mine])
    first = _folder.writing_folder()
    assert first is not None
    assert first.parent == shared
    real = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: real(path, mode) and not (mode & os.W_OK and Path(path).is_relative_to(shared))
    )
    second = _folder.writing_folder()
    assert second is not None
    assert second.parent == mine
    assert _folder.read_folders() == (first, second)
