"""A certificate's key in a stranger's hands: only with the proof of it, and only where a VM shows the certificate too."""

from __future__ import annotations

from auditor.model.facts import SIGNATURE_FITS, Facts
from tests.rules.make import judged, row, undeclared

RULE = "stolen-credential"
LEAF, OTHER = "0ca7f8ec" * 8, "11aa22bb" * 8


def showing(leaf=LEAF, *, proved=True, fits=None):
    tls = {"client_certificate": "sent", "client_certificates": [leaf], "certificate_verify": proved}
    own = {} if fits is None else {SIGNATURE_FITS: fits}
    return {"tls": tls, "facts": Facts({f"tls.{kind}": value for kind, value in tls.items()}, own)}


def stranger(**fields):
    nobody = {"originator_role": None, "originator_instance": None, "originator_roles": ()}
    return undeclared("unknown_host", nobody, originator_ip=fields.pop("ip", "10.0.9.99"), **fields)


def test_a_stranger_with_the_certificate_of_two_cells(fired):
    table = judged(
        row(**showing()),
        row(**showing(), originator_instance="diego_cell/1", originator_ip="10.0.4.21", after=1),
        stranger(**showing(), entered=True, after=2),
        stranger(**showing(), after=3),
    )
    [finding] = fired(RULE, table)
    assert (
        finding.title == f"10.0.9.99, in no inventory, holds the certificate {LEAF[:16]}… of diego_cell/0, diego_cell/1"
    )
    assert "1 server connection accepted it" in finding.detail
    assert finding.rows == (2, 3)
    assert finding.severity.word == "critical"
    assert {each["kind"] for each in finding.evidence} >= {"tls.client_certificates", "peer.tls.client_certificates"}


def test_a_server_s_certificate_counts_too(fired):
    shown = {"server_certificates": [LEAF]}
    [finding] = fired(RULE, judged(row(tls=shown), stranger(**showing())))
    assert "of diego_database/0" in finding.title
    assert "no server was seen to accept it" in finding.detail


def test_without_proof_of_the_key_nothing_is_said(fired):
    for given in (showing(proved=False), showing(fits=False)):
        assert fired(RULE, judged(row(**showing()), stranger(**given))) == []


def test_a_certificate_that_no_vm_shows_is_no_theft(fired):
    assert fired(RULE, judged(row(**showing(OTHER)), stranger(**showing()))) == []


def test_a_vm_that_shows_its_own_is_no_stranger(fired):
    assert fired(RULE, judged(row(**showing()), undeclared("connection", **showing()))) == []


def test_two_strangers_are_two_findings(fired):
    found = fired(RULE, judged(row(**showing()), stranger(**showing()), stranger(ip="10.0.9.98", **showing())))
    assert [each.subject[1] for each in found] == ["10.0.9.98", "10.0.9.99"]
