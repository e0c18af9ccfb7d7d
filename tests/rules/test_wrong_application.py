"""The right road, the wrong cargo."""

from __future__ import annotations

from tests.rules.make import judged, row

RULE = "wrong-application"


def test_plain_http_on_the_bbs_port(fired):
    wrong = row(breach="application", application="http", says="http was spoken where https is documented")
    [finding] = fired(RULE, judged(row(), wrong))
    assert finding.subject == ("cell-bbs", "diego_cell", "diego_database", "8889", "http")
    assert finding.title == "diego_cell speaks http to diego_database on 8889/tcp"
    assert "on 8889/tcp, path cell-bbs: http was spoken where https is documented." in finding.detail
    assert finding.path == "cell-bbs"


def test_two_protocols_are_two_findings(fired):
    found = fired(
        RULE, judged(*(row(breach="application", application=spoken) for spoken in ("ssh", "unknown", "ssh")))
    )
    assert [(each.subject[4], each.count) for each in found] == [("ssh", 2), ("unknown", 1)]
    assert "an unrecognised protocol" in found[1].title


def test_several_candidate_paths_are_one_fact(fired):
    [finding] = fired(
        RULE, judged(row(breach="application", application="http", paths=("cell-bbs-re", "cell-bbs-rep")))
    )
    assert finding.subject[0] == "cell-bbs-re+cell-bbs-rep"
    assert finding.path == "cell-bbs-re"
    assert "cell-bbs-re or cell-bbs-rep" in finding.detail


def test_the_documented_application_does_not_fire(fired):
    assert fired(RULE, judged(row(), row(application="unknown", incomplete="midstream"))) == []
