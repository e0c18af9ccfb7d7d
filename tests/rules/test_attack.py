"""Techniques of MITRE ATT&CK that rules have."""

from __future__ import annotations

import json
import re

import auditor
from auditor.catalogue import discover
from auditor.rules._attack import TECHNIQUES, techniques
from tests.report import make


def test_they_are_of_rules_that_there_are_and_well_formed():
    assert set(TECHNIQUES) <= {rule.name for rule in discover("auditor.rules", "RULE")}
    for found in TECHNIQUES.values():
        for each in found:
            assert re.fullmatch(r"T1\d{3}(\.\d{3})?", each.id)
            assert each.url == f"https://attack.mitre.org/techniques/{each.id.replace('.', '/')}/"
    assert techniques("capture-incomplete") == ()


def test_sarif_ocsf_and_the_page_name_them():
    report = auditor.Report(make.audit())
    rules = json.loads(report._text("sarif"))["runs"][0]["tool"]["driver"]["rules"]
    [plaintext] = [rule for rule in rules if rule["id"] == "plaintext"]
    assert "external/attack/T1040" in plaintext["properties"]["tags"]
    events = [json.loads(line) for line in report._text("ocsf").splitlines()]
    found = [event["finding_info"] for event in events if event["class_uid"] == 2004]
    assert [each["attacks"][0]["technique"]["uid"] for each in found if each["types"] == ["plaintext"]] == ["T1040"]
    assert 'title="MITRE ATT&amp;CK: Network Sniffing">T1040</span>' in report.to_html()
