"""CEF, read by a parser of its users."""

from __future__ import annotations

import pycef
import pytest


def lines(written, audit) -> list[str]:
    return written("cef", audit).decode().splitlines()


@pytest.mark.parametrize("which", ["audit", "real"])
def test_a_line_for_each_finding(which, request, written):
    audit = request.getfixturevalue(which)
    found = [pycef.parse(line) for line in lines(written, audit)]
    assert len(found) == len(audit.findings)
    for line, (_, finding) in zip(found, audit.findings.iterrows(), strict=True):
        assert line["DeviceEventClassID"] == finding["rule"]
        assert line["externalId"] == finding["fingerprint"]
        assert int(line["cnt"]) == max(int(finding["count"]), 1)


def test_addresses_and_severity(real, written):
    first = pycef.parse(lines(written, real)[0])
    assert (first["src"], first["dst"], first["dpt"], first["DeviceSeverity"]) == (
        "10.0.5.30",
        "10.0.5.20",
        "1801",
        "10",
    )
    assert first["documentedPath"] == "auctioneer-to-rep"


def test_nothing_from_the_wire_breaks_a_line_or_a_field(audit, written):
    text = written("cef", audit).decode()
    assert text.count("\n") == len(audit.findings)
    assert text.isascii() or "\x1b" not in text
    for line in text.splitlines():
        header = line.replace("\\|", "").split("|")
        assert len(header) >= 8
        assert header[0] == "CEF:0"
        assert header[6].isdecimal()
