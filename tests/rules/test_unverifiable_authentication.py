"""What the capture cannot tell is noted, and with --strict it counts."""

from __future__ import annotations

import pytest

from tests.rules.make import CELL, TO_UAA, judged, row

RULE = "unverifiable-authentication"


def unknown(missing="midstream", **fields):
    return row(authentication_verdict="unverifiable", authentication_missing=missing, **fields)


def test_one_note_for_a_path_and_pair(fired):
    [finding] = fired(RULE, judged(row(), unknown(after=1), unknown("encrypted", after=2), unknown(after=3)))
    assert (finding.severity.word, finding.rows, finding.count) == ("info", (1, 2, 3), 3)
    assert finding.subject == ("cell-bbs", "diego_cell", "diego_database", "8889", "tcp")
    assert "2 begun before the capture; 1 encrypted" in finding.detail
    assert finding.remediation.startswith("Start the capture before the components connect; ")


def test_an_empty_certificate_is_told_apart_from_what_is_not_known(fired):
    empty = {"tls": {"client_certificate": "inferred_empty"}}
    found = fired(RULE, judged(unknown(), unknown("outcome", after=1, **empty), unknown("outcome", after=2)))
    assert sorted(each.rows for each in found) == [(0, 2), (1,)]
    [told] = [each for each in found if each.rows == (1,)]
    assert "got an empty one in 1 connection" in told.title
    assert told.subject[-1] == "empty"
    assert len({each.subject for each in found}) == 2


def test_paths_stay_apart(fired):
    found = fired(RULE, judged(unknown(), unknown(**(CELL | TO_UAA), paths=("x",), responder_port=443)))
    assert len(found) == 2


@pytest.mark.parametrize(("strict", "severity"), [(False, "info"), (True, "medium")])
def test_strict_raises_it(fired, strict, severity):
    [finding] = fired(RULE, judged(unknown(), strict=strict))
    assert finding.severity.word == severity


def test_a_word_that_is_new_is_told_as_it_is(fired):
    [finding] = fired(RULE, judged(unknown("solar_flare"), unknown(None, after=1)))
    assert "undecided (solar flare)" in finding.detail
    assert "undecided (unknown)" in finding.detail
    assert finding.remediation == ""


def test_what_does_not_count_is_not_noted(fired):
    """Without payload, or hidden by design: load balancers probe so, OAuth is inside TLS."""
    quiet = unknown("no_payload", authentication_counted=False)
    others = [row(authentication_verdict=verdict) for verdict in ("verified", "inferred", "violated", "not_applicable")]
    assert fired(RULE, judged(quiet, *others)) == []


def test_what_hangs_is_an_outage_and_needs_no_better_capture(fired):
    hanging = unknown("encrypted", history="ShAD", conn_state="S1", duration=0.1)
    later = row(after=60, responder_ip="10.0.6.99", responder_port=1, paths=("other",))
    assert fired(RULE, judged(hanging, later)) == []
    assert len(fired("documented-path-failing", judged(hanging, later))) == 1
    [finding] = fired(RULE, judged(dict(hanging, disposition="ambient"), later))
    assert "1 accepted but never answered" in finding.detail
    assert finding.remediation == ""
