"""Half a capture is said to be half a capture."""

from __future__ import annotations

from tests.rules.make import judged, row, undeclared

RULE = "capture-incomplete"
CANNOT_TELL = {"authentication_verdict": "unverifiable"}


def test_midstream_and_gaps_on_a_documented_path(fired):
    [finding] = fired(
        RULE,
        judged(
            row(CANNOT_TELL, incomplete="midstream"),
            row(CANNOT_TELL, incomplete="midstream,gap"),
            row(CANNOT_TELL, incomplete=""),
        ),
    )
    assert finding.count == 2
    assert finding.severity.word == "info"
    assert finding.path == "cell-bbs"
    assert "2 begun before the capture, 1 with packets missing" in finding.detail
    assert finding.remediation.startswith("Start the capture before")


def test_what_did_not_need_the_missing_packets_is_not_counted(fired):
    quiet = [
        row(incomplete="gap"),
        row(CANNOT_TELL, incomplete="one_way", outcome="attempt"),
        undeclared("cell_egress", incomplete="midstream", disposition="ambient"),
        undeclared("connection", incomplete="midstream"),
    ]
    assert fired(RULE, judged(*quiet)) == []
