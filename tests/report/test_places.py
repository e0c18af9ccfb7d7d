"""Who stands under which name in the map and in the filters."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from auditor.report._places import MUTTERING, NOISE, OTHERS, OUTSIDE, SHOWN_STRANGERS, is_stranger, places

NAMES = ("originator_role", "originator_ip", "responder_role", "responder_ip", "transport", "disposition", "breach")


def placed(*rows: tuple[str | None, ...]) -> list[tuple[str, str]]:
    found = places(pd.DataFrame([dict(zip(NAMES, row, strict=True)) for row in rows], columns=list(NAMES)))
    return list(zip(found["originator"], found["responder"], strict=True))


def test_strangers_stand_apart_from_noise():
    assert placed(
        ("diego_cell", "10.0.4.10", "uaa", "10.0.4.50", "tcp", "documented", None),
        ("diego_cell", "10.0.4.10", None, "224.0.0.18", "udp", "out_of_scope", None),
        (None, "10.0.4.1", None, "224.0.0.18", "112", "out_of_scope", None),
        (None, "fe80::1", None, "ff02::fb", "udp", "out_of_scope", None),
        (None, "10.0.4.2", None, "10.0.4.255", "udp", "out_of_scope", None),
        (None, "10.0.4.99", None, "10.0.4.255", "udp", "undeclared", "unknown_host"),
        (None, "10.0.4.99", "uaa", "10.0.4.50", "tcp", "undeclared", "unknown_host"),
        (None, "10.0.4.99", None, "224.0.0.251", "udp", "out_of_scope", None),
        ("diego_cell", "10.0.4.10", None, "203.0.113.7", "tcp", "ambient", "cell_egress"),
        ("uaa", "10.0.4.50", None, "203.0.113.9", "tcp", "undeclared", "control_plane_egress"),
    ) == [
        ("diego_cell", "uaa"),
        ("diego_cell", NOISE),
        (MUTTERING, NOISE),
        (MUTTERING, NOISE),
        (MUTTERING, NOISE),
        ("10.0.4.99", "10.0.4.255"),
        ("10.0.4.99", "uaa"),
        ("10.0.4.99", NOISE),
        ("diego_cell", OUTSIDE),
        ("uaa", "203.0.113.9"),
    ]


def test_twenty_strangers_have_a_name_the_undeclared_first():
    quiet = [(None, f"10.0.9.{n}", "uaa", "10.0.4.50", "tcp", "out_of_scope", None) for n in range(1, 31) for _ in "ab"]
    loud = [(None, "10.0.8.99", "uaa", "10.0.4.50", "tcp", "undeclared", "unknown_host")]
    counts = Counter(one for one, _ in placed(*quiet, *loud))
    assert counts["10.0.8.99"] == 1
    assert len(counts) == SHOWN_STRANGERS + 1
    assert counts[OTHERS] == 2 * 11
    few = Counter(one for one, _ in placed(*quiet[: 2 * SHOWN_STRANGERS]))
    assert OTHERS not in few
    assert len(few) == SHOWN_STRANGERS


def test_without_roles_there_are_no_places():
    assert places(pd.DataFrame({"originator_ip": ["10.0.0.1"]})) == {}
    assert placed() == []


def test_an_address_is_a_stranger_and_a_role_is_none():
    assert [is_stranger(each) for each in ("10.0.0.1", "2001:db8::1", "uaa", NOISE)] == [True, True, False, False]
