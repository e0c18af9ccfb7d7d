"""What the rules that make findings of faults have in common, for each of them."""

from __future__ import annotations

import time

import pytest

from auditor.catalogue import discover
from auditor.model.connections import FRAME_BITS
from auditor.model.evidence import Certainty
from auditor.model.facts import Facts
from auditor.model.judgement import Fault
from auditor.rules._faults import in_captures
from auditor.rules._subject import identify
from tests.rules.make import CELL, TO_UAA, judged, row

FROM_FAULTS = (
    "plaintext",
    "missing-client-certificate",
    "weak-tls",
    "certificate-expired",
    "certificate-identity",
    "certificate-untrusted",
    "weak-certificate",
    "missing-credentials",
    "wrong-authentication-method",
    "authentication-downgrade",
    "cleartext-credentials",
    "authentication-rejected",
)


def frame(capture: int, number: int) -> int:
    return capture << FRAME_BITS | number


@pytest.mark.parametrize("rule", FROM_FAULTS)
def test_a_fault_of_the_rule_fires_it_and_no_other(rule):
    mine = row(faults=(Fault(rule, "something is wrong"),))
    others = [row(faults=tuple(Fault(other, "else") for other in FROM_FAULTS if other != rule), after=1)]
    found = [each for one in discover("auditor.rules", "RULE") for each in one.check(judged(mine, row(after=2)))]
    assert [each.rule for each in found] == [rule]
    [finding] = found
    assert finding.subject == ("cell-bbs", "diego_cell", "diego_database", "8889", "tcp")
    assert (finding.rows, finding.count, finding.path, finding.confidence) == ((0,), 1, "cell-bbs", "high")
    assert finding.detail.endswith("Path cell-bbs. Something is wrong.")
    assert "diego_cell" in finding.title
    assert "8889/tcp" in finding.title
    assert finding.remediation.endswith(".")
    assert [
        each for each in discover("auditor.rules", "RULE") if each.name == rule and list(each.check(judged(*others)))
    ] == []


def test_one_fact_on_many_connections_is_one_finding(fired):
    shared = (Fault("weak-tls", "TLS 1.0 was agreed on", about="TLS 1.0"),)
    rows = [row(faults=shared, originator_ip=f"10.0.4.{20 + k % 2}", after=k) for k in range(40)]
    [finding] = fired("weak-tls", judged(*rows, row(after=50)))
    assert (finding.count, finding.rows) == (40, tuple(range(40)))
    assert finding.detail.count("TLS 1.0 was agreed on") == 1


def test_two_things_are_two_findings_with_fingerprints_of_their_own(fired):
    server = Fault("certificate-expired", "the server's is old", about="server bbs")
    client = Fault("certificate-expired", "the client's is old", about="client rep")
    found = fired("certificate-expired", judged(row(faults=(server, client)), row(faults=(client,), after=1)))
    assert [(each.subject[5], each.rows) for each in found] == [("client rep", (0, 1)), ("server bbs", (0,))]
    assert len({mark for _, mark in identify(found)}) == 2


def test_paths_ends_and_services_keep_findings_apart(fired):
    fault = (Fault("plaintext", "HTTP in the clear"),)
    rows = [
        row(faults=fault),
        row(CELL, TO_UAA, faults=fault, paths=("cell-uaa",), responder_port=443),
        row(faults=fault, originator_ip="10.9.9.9", originator_role=None, originator_instance=None),
        row(faults=fault, responder_port=61_002),
        row(faults=fault, responder_port=65_000),
    ]
    found = fired("plaintext", judged(*rows))
    assert sorted((each.subject[1], each.subject[3], each.count) for each in found) == [
        ("10.9.9.9", "8889", 1),
        ("diego_cell", "443", 1),
        ("diego_cell", "61001-65534", 2),
        ("diego_cell", "8889", 1),
    ]


def test_evidence_is_what_the_fault_points_at_with_its_frames(fired):
    fault = (Fault("weak-tls", "weak", kinds=("tls.version", "tls.cipher", "tls.sni", "_link.session_id")),)
    places = {"tls.version": (frame(0, 7),), "tls.cipher": (frame(2, 1), frame(2, 9))}
    shared = {"tls.version": "TLS 1.0", "tls.cipher": "TLS_RSA_WITH_NULL_SHA"}
    facts = Facts(shared, {"_link.session_id": "x"}, ((places, None),), {"tls.cipher": Certainty.INFERRED})
    [finding] = fired("weak-tls", judged(row(faults=fault, facts=facts), row(faults=fault, facts=facts, after=1)))
    assert finding.evidence == (
        {"kind": "tls.version", "value": "TLS 1.0", "certainty": "proven", "frames": [[0, 7]]},
        {"kind": "tls.cipher", "value": "TLS_RSA_WITH_NULL_SHA", "certainty": "inferred", "frames": [[2, 1], [2, 9]]},
    )


def test_different_values_of_one_kind_stay_apart(fired):
    fault = (Fault("weak-tls", "weak", kinds=("tls.version",)),)
    rows = [
        row(faults=fault, facts=Facts({"tls.version": version}, marks=(({"tls.version": (k + 1,)}, None),)), after=k)
        for k, version in enumerate(("TLS 1.0", "TLS 1.1", "TLS 1.0"))
    ]
    [finding] = fired("weak-tls", judged(*rows))
    assert [(each["value"], each["frames"]) for each in finding.evidence] == [
        ("TLS 1.0", [[0, 1], [0, 3]]),
        ("TLS 1.1", [[0, 2]]),
    ]


def test_without_frames_of_its_own_the_connections_first_are_shown(fired):
    [finding] = fired(
        "plaintext", judged(row(), row(faults=(Fault("plaintext", "x", kinds=("http.method",)),), after=1))
    )
    assert finding.evidence == (
        {"kind": "connection.opened", "value": "8889/tcp", "certainty": "proven", "frames": [[0, 2]]},
    )


def test_the_surest_counts_and_many_sentences_are_cut_short(fired):
    rows = [
        row(faults=(Fault("authentication-rejected", f"reason {k}", "medium" if k == 3 else "low"),), after=k)
        for k in range(6)
    ]
    [finding] = fired("authentication-rejected", judged(*rows))
    assert finding.confidence == "medium"
    assert finding.detail.endswith("Reason 0. Reason 1. Reason 2. There are 3 more of this kind.")


def test_names_keep_their_spelling(fired):
    says = "mysql_clear_password was used instead of mysql_native_password"
    [finding] = fired("wrong-authentication-method", judged(row(faults=(Fault("wrong-authentication-method", says),))))
    assert f" {says}." in finding.detail


def test_evidence_without_frames_gives_way_to_evidence_with_them(fired):
    fault = (Fault("weak-tls", "weak", kinds=("tls.server_records", "tls.version")),)
    facts = Facts({"tls.server_records": (), "tls.version": "TLS 1.0"}, marks=(({"tls.version": (3,)}, None),))
    [finding] = fired("weak-tls", judged(row(faults=fault, facts=facts)))
    assert [each["kind"] for each in finding.evidence] == ["tls.version"]


def test_frames_of_captures():
    assert in_captures((frame(0, 1), frame(3, 1 << 33))) == [[0, 1], [3, 1 << 33]]


def test_many_connections_are_grouped_fast(fired):
    """Every rule looks at every connection of an audit: what repeats is looked at once."""
    shared = (Fault("weak-tls", "old", about="TLS 1.0"), Fault("certificate-expired", "old", about="server x"))
    table = judged(*(row(after=k) for k in range(50)))
    frame_of = table.connections
    big = type(table)(frame_of.loc[frame_of.index.repeat(1_000)].reset_index(drop=True), None, None)
    big.connections["faults"] = [shared if k % 3 else () for k in range(len(big.connections))]
    before = time.perf_counter()
    found = [each for name in FROM_FAULTS for each in fired(name, big)]
    spent = time.perf_counter() - before
    assert sorted(each.count for each in found) == [33_333, 33_333]
    assert spent < 5  # 0.2 s measured; room for a busy machine
