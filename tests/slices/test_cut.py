"""A slice holds the frames of its connections, all of them, from every capture, and no others."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from auditor import api
from auditor.slices.cut import cut
from auditor.slices.wanted import choose

SAMPLE = "captures/sample/diego.pcapng"


@pytest.fixture(scope="module")
def report():
    return api.audit("sample:diego")


def sliced(report, tmp_path, findings=(), connections=(), captures=(SAMPLE,), **options):
    choice = choose(report.audit.connections, report.audit.findings, finding_ids=findings, connection_ids=connections)
    out = io.BytesIO()
    told = cut([Path(each) for each in captures], choice.connections, out, **options)
    path = tmp_path / "slice.pcapng"
    path.write_bytes(out.getvalue())
    return choice, told, path


def test_the_same_connections_come_out_of_it(report, tmp_path):
    """Every connection of the sample, one slice each rule."""
    for finding in report.audit.findings.itertuples():
        choice, told, path = sliced(report, tmp_path, findings=[finding.fingerprint], index=tmp_path / "index")
        assert {each.id for each in choice.connections} == told.connections
        assert told.connections - set(choice.witnesses) == set(finding.connections)
        again = {row.id: row for row in api.connections(str(path)).connections.itertuples()}
        for row in report.audit.connections[report.audit.connections["id"].isin(finding.connections)].itertuples():
            if row.direction_by != "syn":  # what else was in the capture told who listens
                continue
            assert (
                row.originator_packets,
                row.originator_bytes,
                row.responder_bytes,
                row.history,
                row.missed_bytes,
            ) == (
                again[row.id].originator_packets,
                again[row.id].originator_bytes,
                again[row.id].responder_bytes,
                again[row.id].history,
                again[row.id].missed_bytes,
            )
        assert len(again) == len(choice.connections)


def test_both_captures_that_saw_it(report, tmp_path):
    one = report.audit.connections["id"].iloc[0]
    copy = tmp_path / "second.pcapng"
    copy.write_bytes(Path(SAMPLE).read_bytes())
    _, alone, _ = sliced(report, tmp_path, connections=[one])
    _, both, path = sliced(report, tmp_path, connections=[one], captures=(SAMPLE, str(copy)))
    assert both.frames == 2 * alone.frames
    assert set(both.captures) == {SAMPLE, str(copy)}
    assert both.sorted
    times = [float(line) for line in told_by_tshark(path, "frame.time_epoch")]
    assert times == sorted(times)


def told_by_tshark(path: Path, *fields: str) -> list[str]:
    names = [part for name in fields for part in ("-e", name)]
    done = subprocess.run(
        ["tshark", "-r", str(path), "-T", "fields", *names], capture_output=True, text=True, timeout=120, check=True
    )
    assert "cut short" not in done.stderr
    return done.stdout.splitlines()


@pytest.mark.tshark
def test_tshark_opens_it_and_the_comments_lead_back(report, tmp_path, tshark):
    finding = report.audit.findings.iloc[0]
    _, told, path = sliced(report, tmp_path, findings=[finding["id"]], comment="Cut out for a test.")
    lines = told_by_tshark(path, "frame.comment", "frame.interface_name", "frame.len")
    assert len(lines) == told.frames
    places = [int(line.split("\t")[0].rpartition("frame ")[2]) for line in lines]
    whole = told_by_tshark(Path(SAMPLE), "frame.len")
    assert [line.split("\t")[2] for line in lines] == [whole[place - 1] for place in places]
    assert all(f"finding {finding['id']} ({finding['rule']})" in line for line in lines)


@pytest.mark.parametrize("application", ["http", "nats", "mysql", "tls", "ssh", "https"])
def test_redaction_keeps_lengths_and_shows_nothing_else(report, tmp_path, application):
    table = report.audit.connections
    ids = table[table["application"] == application]["id"].tolist()
    assert ids
    _, plain, path = sliced(report, tmp_path, connections=ids)
    before = path.read_bytes()
    _, told, path = sliced(report, tmp_path, connections=ids, redact=True)
    after = path.read_bytes()
    assert (told.frames, told.bytes) == (plain.frames, plain.bytes)
    for secret in (b"HTTP/1", b"GET ", b"Bearer", b"CONNECT {", b"-ERR", b"mysql_native_password\0"):
        assert secret not in after
    if application in ("http", "nats"):
        assert b"HTTP/1" in before or b"CONNECT {" in before
    again = api.connections(str(path)).connections
    was = table[table["id"].isin(ids)].set_index("id")
    assert set(again["id"]) == set(ids)
    for row in again.itertuples():
        assert (row.originator_bytes, row.responder_bytes) == (
            was.loc[row.id, "originator_bytes"],
            was.loc[row.id, "responder_bytes"],
        )
        if application in ("tls", "ssh") and was.loc[row.id, "application"] == application:
            assert row.application == application


def test_redacted_tls_is_judged_the_same(report, tmp_path):
    """Verdicts of TLS stand on handshakes and lengths, and both are left."""
    table = report.audit.connections
    some = table[
        (table["application"] == "tls") & table["authentication_verdict"].isin(["verified", "inferred", "violated"])
    ]
    _, _, path = sliced(report, tmp_path, connections=some["id"].tolist(), redact=True)
    again = api.audit(str(path), inventory="captures/sample/diego.inventory.yml").audit.connections.set_index("id")
    for row in some.itertuples():
        assert again.loc[row.id, "authentication_verdict"] == row.authentication_verdict, row.id


def test_secrets_of_a_capture_are_left_behind(tmp_path):
    """A Decryption Secrets Block is not a packet."""
    import struct

    whole = Path(SAMPLE).read_bytes()
    first = struct.unpack_from("<I", whole, 4)[0]
    keys = b"CLIENT_RANDOM 00 planted-key-material"
    padded = keys + bytes(-len(keys) % 4)
    size = 20 + len(padded)
    block = struct.pack("<IIII", 10, size, 0x544C534B, len(keys)) + padded + struct.pack("<I", size)
    capture = tmp_path / "keys.pcapng"
    capture.write_bytes(whole[:first] + block + whole[first:])
    report = api.connections(str(capture))
    _, told, path = sliced(
        report, tmp_path, connections=[report.connections["id"].iloc[0]], captures=(str(capture),), index=tmp_path / "i"
    )
    assert told.frames > 3
    assert b"planted" not in path.read_bytes()
    assert not any(b"planted" in each.read_bytes() for each in (tmp_path / "i").iterdir())
