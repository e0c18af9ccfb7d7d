"""From a kept connection to its packets, and to no other file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from auditor.jobs.keep import restore, sha256_of
from auditor.report import _story as story
from auditor.review.packets import Library, dissected
from auditor.store.history import open_history
from tests.conftest import ROOT

SAMPLE = ROOT / "captures" / "sample" / "diego.pcapng"


@pytest.fixture(scope="module")
def kept(store):
    with open_history(store) as history:
        return restore(history, history.find("2"))


def row_of(audit, rule):
    [name, *_] = audit.findings.loc[audit.findings["rule"] == rule, "connections"].iloc[0]
    found = audit.connections[audit.connections["id"] == name]
    return {**next(story.rows(found)), "authentication_evidence": found["authentication_evidence"].iloc[0]}


def test_a_capture_is_known_by_its_hash_and_not_by_its_name(tmp_path):
    sha256 = sha256_of(SAMPLE)
    assert Library().find(str(SAMPLE), sha256) == (SAMPLE, "")
    moved = tmp_path / SAMPLE.name
    shutil.copy(SAMPLE, moved)
    assert Library((tmp_path,)).find("/gone/diego.pcapng", sha256) == (moved, "")
    moved.write_bytes(b"another")
    assert "the file was replaced" in Library((tmp_path,)).find("/gone/diego.pcapng", sha256)[1]
    assert "not found" in Library().find("/gone/diego.pcapng", sha256)[1]
    assert "hash was not recorded" in Library().find(str(SAMPLE), None)[1]
    assert Library((tmp_path,)).find("../../etc/passwd\0", sha256)[0] is None


def test_a_store_from_elsewhere_opens_no_file_of_this_machine():
    assert Library().find("/etc/passwd", "0" * 64) == (None, "the file was replaced (its SHA-256 differs)")


@pytest.mark.usefixtures("tshark")
@pytest.mark.tshark
def test_frames_with_direction_and_proof(kept):
    found = dissected(Library(), kept.captures, row_of(kept, "missing-client-certificate"))
    assert not found.truncated
    assert [frame.forward for frame in found.frames[:3]] == [True, False, True]
    assert found.frames[0].says.startswith("SYN, ")
    assert found.frames[0].time == "0.000000"
    assert any("Client Hello" in frame.says for frame in found.frames)
    proofs = {kind for frame in found.frames for kind in frame.proves}
    assert "tls.client_finished" in proofs


@pytest.mark.usefixtures("tshark")
@pytest.mark.tshark
def test_no_password_is_shown_and_few_frames_are_said_to_be_few(kept):
    row = row_of(kept, "cleartext-credentials")
    few = dissected(Library(), kept.captures, row, limit=2)
    assert (len(few.frames), few.truncated) == (2, True)
    whole = dissected(Library(), kept.captures, row)
    assert "(masked)" in repr(whole.frames)


def test_a_capture_that_is_gone_is_told(kept):
    captures = kept.captures.assign(path="/gone/x.pcapng")
    found = dissected(Library(), captures, row_of(kept, "plaintext"))
    assert found.frames == ()
    assert "/gone/x.pcapng: not found" in found.problems[0]


def test_without_tshark_the_page_says_so(kept, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    found = dissected(Library(), kept.captures, row_of(kept, "plaintext"))
    assert found.frames == ()
    assert "tshark" in found.problems[0]
    assert Path(kept.captures["path"].iloc[0]).is_file()
