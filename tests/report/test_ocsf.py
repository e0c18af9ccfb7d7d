"""OCSF, by the schema that its makers publish."""

from __future__ import annotations

import json

import jsonschema
import pytest
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from auditor.incidents import of
from auditor.report.ocsf import VERSION


@pytest.fixture(scope="module")
def classes() -> dict[int, jsonschema.Draft202012Validator]:
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(VERSION))
    return {
        uid: jsonschema.Draft202012Validator(schema.get_class_schema(schema.lookup_class_name_from_uid(uid)))
        for uid in (4001, 2004, 2005)
    }


def events(written, audit, **options) -> list[dict]:
    return [json.loads(line) for line in written("ocsf", audit, **options).splitlines()]


@pytest.mark.parametrize("which", ["audit", "real"])
def test_the_schema_has_no_objection(which, request, written, classes):
    audit = request.getfixturevalue(which)
    found = events(written, audit)
    assert len(found) == len(audit.connections) + len(audit.findings) + len(of(audit))
    assert len(of(audit)) > 0
    assert [error.message for event in found for error in classes[event["class_uid"]].iter_errors(event)] == []


def test_the_schema_can_object(real, written, classes):
    event = events(written, real, table="findings")[0]
    assert event["class_uid"] == 2004
    del event["finding_info"]
    assert not classes[2004].is_valid(event)


def test_what_the_events_say(real, written):
    connection = events(written, real, table="connections")[0]
    row = real.connections.iloc[0]
    assert connection["connection_info"]["community_uid"] == row["community_id"]
    assert (
        connection["time"] == row["start"].value // 1_000_000
        if hasattr(row["start"], "value")
        else row["start"] // 10**6
    )
    assert connection["tls"]["version"] == "1.2"
    assert connection["unmapped"]["auditor"]["verdict"] == "verified"
    finding = events(written, real, table="findings")[0]
    assert finding["severity_id"] == 5
    assert finding["finding_info"]["uid"] == real.findings["fingerprint"].iloc[0]
    assert events(written, real, table="coverage") == []


def test_waived_is_suppressed(audit, written):
    suppressed = [event for event in events(written, audit, table="findings") if event["status_id"] == 3]
    assert len(suppressed) == int(audit.findings["waived"].notna().sum()) > 0
    assert not any(event["is_alert"] for event in suppressed)
