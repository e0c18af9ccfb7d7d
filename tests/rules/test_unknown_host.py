"""Strangers: each is a finding of its own."""

from __future__ import annotations

from auditor.rules._subject import identify
from tests.rules.make import CELL, judged, row, undeclared

RULE = "unknown-host"


def stranger(address, **fields):
    return undeclared("unknown_host", originator_ip=address, originator_role=None, originator_instance=None, **fields)


def test_a_stranger_at_the_bbs(fired):
    [finding] = fired(RULE, judged(stranger("10.0.9.99", says="10.0.9.99 is in no inventory")))
    assert finding.subject == ("", "10.0.9.99", "diego_database", "8889", "tcp")
    assert finding.title == "10.0.9.99, in no inventory, talks to diego_database on 8889/tcp"
    assert "10.0.9.99 is in no inventory." in finding.detail


def test_a_second_intruder_is_a_second_finding_with_its_own_fingerprint(fired):
    found = fired(RULE, judged(stranger("10.0.9.99"), stranger("10.0.9.98"), stranger("10.0.9.99", after=3)))
    assert [(each.subject[1], each.count) for each in found] == [("10.0.9.98", 1), ("10.0.9.99", 2)]
    assert len({mark for _, mark in identify(found)}) == 2


def test_a_stranger_that_answers_is_named_as_the_answering_end(fired):
    to_stranger = {"responder_ip": "10.0.4.77", "responder_role": None, "responder_instance": None}
    [finding] = fired(RULE, judged(undeclared("unknown_host", CELL, to_stranger)))
    assert finding.title == "diego_cell talks to 10.0.4.77, in no inventory, on 8889/tcp"


def test_the_vms_that_show_the_same_certificate_are_named(fired):
    leaf, other = "0ca7f8ec" * 8, "11aa22bb" * 8
    tls = {"client_certificate": "sent", "client_certificates": [leaf]}
    own = {"client_certificate": "sent", "client_certificates": [other]}
    cells = [row(tls=tls), row(tls=tls, originator_instance="diego_cell/1", originator_ip="10.0.4.21", after=1)]
    with_it, without = fired(RULE, judged(*cells, stranger("10.0.9.98", tls=own), stranger("10.0.9.99", tls=tls)))[::-1]
    assert f"diego_cell/0, diego_cell/1 show the certificate {leaf[:16]}…, too." in with_it.detail
    assert "show the certificate" not in without.detail
    to_stranger = {"responder_ip": "10.0.4.77", "responder_role": None, "responder_instance": None}
    served = {"server_certificates": [leaf]}
    [finding] = fired(RULE, judged(cells[0], undeclared("unknown_host", CELL, to_stranger, tls=served)))
    assert f"diego_cell/0 shows the certificate {leaf[:16]}…, too." in finding.detail


def test_a_vm_without_a_name_is_told_by_its_role(fired):
    nameless = {"responder_ip": "10.0.4.40", "responder_instance": "10.0.4.40"}
    [finding] = fired(RULE, judged(stranger("10.0.9.99", **nameless)))
    assert "to 10.0.4.40 (diego_database) on 8889/tcp" in finding.detail


def test_known_hosts_do_not_fire(fired):
    assert fired(RULE, judged(row(), undeclared("connection"), undeclared("cell_egress"))) == []
