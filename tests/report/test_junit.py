"""JUnit, read by a parser of its users."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from junitparser import Error, Failure, JUnitXml, Skipped

from auditor.catalogue import discover
from tests.report import make


def suites(written, audit) -> dict:
    return {suite.name: suite for suite in JUnitXml.fromstring(written("junit", audit))}


def results(suite) -> dict[str, str]:
    return {case.name.split(":")[0]: type(case.result[0]).__name__ if case.result else "passed" for case in suite}


def test_a_case_for_each_documented_path(real, written):
    paths = results(suites(written, real)["documented paths"])
    assert len(paths) == 25
    assert paths["auctioneer-to-rep"] == Failure.__name__  # without a client certificate
    assert paths["routing-api-to-locket"] == "passed"
    # A stranger was nearest to it, and that is no fault of the path.
    assert paths["cc-to-bbs"] == "passed"


def test_the_rest_has_a_case_for_each_rule(real, written):
    rules = results(suites(written, real)["everything else"])
    assert set(rules) == {rule.name for rule in discover("auditor.rules", "RULE")}
    assert rules["unknown-host"] == rules["undeclared-connection"] == Failure.__name__
    assert rules["missing-client-certificate"] == "passed"  # it is told where its path is


def test_counts_are_those_of_the_cases(real, written):
    whole = JUnitXml.fromstring(written("junit", real))
    said = (whole.tests, whole.failures, whole.errors, whole.skipped)
    whole.update_statistics()
    assert (whole.tests, whole.failures, whole.errors, whole.skipped) == said


def test_silent_paths_are_skipped_and_an_incomplete_audit_is_an_error(audit, written):
    found = suites(written, audit)
    assert Skipped.__name__ in results(found["documented paths"]).values()
    assert list(results(found["sufficiency"]).values()) == [Error.__name__]
    assert list(results(suites(written, make.audit(clean=True, complete=True))["sufficiency"]).values()) == ["passed"]


def test_a_waived_finding_fails_nothing_and_is_told(audit, written):
    root = ET.fromstring(written("junit", audit))  # noqa: S314  # our own
    waived = audit.findings[audit.findings["waived"].notna()]
    assert len(waived)
    failed = "".join("".join(each.itertext()) for each in root.iter("failure"))
    told = "".join(each.text for each in root.iter("system-out"))
    for mark, held in zip(waived["fingerprint"], waived["waived"], strict=True):
        assert mark not in failed
        assert told.count(mark) == 1
        assert f"by {held['owner']} ({held['ticket']}: {held['reason']})" in told
