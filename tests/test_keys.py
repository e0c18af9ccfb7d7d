"""Keys as proof, from the capture to the report: what record lengths leave open, a key log or the keys inside a capture decide."""

from __future__ import annotations

import io
import shutil
import ssl
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import auditor
from auditor.api import Report, format_names
from auditor.cli import main
from auditor.errors import InputError
from tests.report.pages import told as told_by
from tests.test_certificate_rules import NO_CHECK_TIME, issue
from tests.tshark.talks import Secure, Talk, Wire, secured, write

pytestmark = pytest.mark.tshark

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
CELL, BRAIN, DATABASE, UAA = "10.0.1.10", "10.0.1.11", "10.0.2.20", "10.0.2.21"
VMS = f"""
networks: [10.0.0.0/16]
vms:
  - {{name: diego_cell/0, ips: [{CELL}]}}
  - {{name: diego_brain/0, ips: [{BRAIN}]}}
  - {{name: diego_database/0, ips: [{DATABASE}]}}
  - {{name: uaa/0, ips: [{UAA}]}}
"""
TOKEN = "planted-token-of-the-test"
BEARER = f"GET /userinfo HTTP/1.1\r\nHost: uaa\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
NO_TOKEN = b"GET /userinfo HTTP/1.1\r\nHost: uaa\r\n\r\n"
NGINX_400 = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 4\r\n\r\nno!\n"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9_000

CASES: dict[str, tuple[str, str, int, dict[str, Any], str, str]] = {
    "mutual": (CELL, DATABASE, 8889, {}, "inferred", "verified"),
    "declined": (CELL, DATABASE, 8889, {"show": False}, "unverifiable", "violated"),
    "told off": (CELL, DATABASE, 8889, {"show": False, "answers": NGINX_400}, "unverifiable", "rejected"),
    "declined 1.2": (CELL, DATABASE, 8889, {"version": V12, "show": False}, "unverifiable", "violated"),
    "not asked": (CELL, DATABASE, 8889, {"ask": False, "answers": LONG}, "violated", "violated"),
    "refused": (CELL, DATABASE, 8889, {"show": False, "require": True}, "rejected", "rejected"),
    "token": (BRAIN, UAA, 443, {"ask": False, "says": BEARER, "answers": LONG}, "unverifiable", "verified"),
    "no token": (BRAIN, UAA, 443, {"ask": False, "says": NO_TOKEN, "answers": LONG}, "unverifiable", "violated"),
    "token 1.2": (BRAIN, UAA, 443, {"version": V12, "ask": False, "says": BEARER}, "unverifiable", "verified"),
}
"""Who calls whom, on which port, how; the verdict of the wire alone, and with keys."""


@cache
def ends(folder: Path, client: str, server: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of mutual TLS 1.3 with certificates of these names."""
    asks, answers = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for context, name in ((asks, client), (answers, server)):
        context.minimum_version = context.maximum_version = V13
        context.load_cert_chain(issue(folder, name))
        context.load_verify_locations(issue(folder, "internalCA", "internalCA"))
        context.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
        context.check_hostname = False
    asks.verify_mode, answers.verify_mode = ssl.CERT_NONE, ssl.CERT_REQUIRED
    return asks, answers


class Told:
    """A capture of all cases, its keys, and who is who."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.capture, self.keylog, self.inventory = folder / "tls.pcap", folder / "keys.log", folder / "vms.yml"
        self.inventory.write_text(VMS)
        wire = Wire()
        self.ports: dict[str, int] = {}
        for name, (client, server, port, how, *_) in CASES.items():
            self._talk(wire, name, client, server, port, Secure(**how))
        for name in ("cell.service.cf.internal", "bbs-client", "cc_uploader"):
            asks, answers = ends(folder, name, "bbs.service.cf.internal")
            self._talk(
                wire, name, CELL, DATABASE, 8889, Secure(require=True, client_context=asks, server_context=answers)
            )
        again = Secure()
        again.session = self._talk(wire, "full", BRAIN, DATABASE, 8891, again)
        self._talk(wire, "resumed", BRAIN, DATABASE, 8891, again)
        write(wire, self.capture)

    def _talk(self, wire: Wire, name: str, client: str, server: str, port: int, made: Secure) -> ssl.SSLSession | None:
        number = len(self.ports) + 1
        self.ports[name] = 40_000 + number
        isn = 10_000_000 * number
        return secured(Talk(wire, client, 40_000 + number, server, port, isn, isn + 5_000_000), self.keylog, made)

    def audit(self, capture: Path | None = None, keylog: Path | None = None, **more: Any) -> Report:
        named = "cf-deployment-names"
        return auditor.audit(capture or self.capture, policy=named, inventory=self.inventory, keylog=keylog, **more)

    def verdicts(self, report: Report) -> dict[str, str]:
        rows = report.connections
        found = dict(zip(rows["originator_port"], rows["authentication_verdict"], strict=True))
        return {name: found[self.ports[name]] for name in CASES}

    def row(self, report: Report, name: str) -> dict[str, Any]:
        [row] = report.connections.query(f"originator_port == {self.ports[name]}").to_dict("records")
        return row

    def rules(self, report: Report, name: str) -> set[str]:
        rule_of = dict(zip(report.findings["id"], report.findings["rule"], strict=True))
        return {rule_of[each] for each in self.row(report, name)["findings"]}


@pytest.fixture(scope="module")
def told(tmp_path_factory, tshark) -> Told:
    return Told(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def closed(told) -> Report:
    return told.audit()


@pytest.fixture(scope="module")
def opened(told) -> Report:
    return told.audit(keylog=told.keylog)


@pytest.fixture(scope="module")
def with_secrets(told) -> Path:
    """The capture as a pcapng that holds its keys."""
    editcap = shutil.which("editcap")
    if editcap is None:
        pytest.skip("editcap is not installed (Debian package wireshark-common)")
    path = told.folder / "dsb.pcapng"
    subprocess.run(
        [editcap, "--inject-secrets", f"tls,{told.keylog}", str(told.capture), str(path)],
        check=True,
        capture_output=True,
    )
    return path


# Verdicts ------------------------------------------------------------------------------------------------------------


def test_the_wire_alone_infers_or_cannot_tell(told, closed):
    assert told.verdicts(closed) == {name: case[4] for name, case in CASES.items()}
    assert closed.warnings == ()


def test_keys_decide_what_the_wire_leaves_open(told, opened):
    assert told.verdicts(opened) == {name: case[5] for name, case in CASES.items()}
    assert opened.warnings == ()


def test_findings_follow(told, closed, opened):
    assert "missing-client-certificate" not in told.rules(closed, "declined")
    assert "missing-client-certificate" in told.rules(opened, "declined")
    assert "missing-credentials" in told.rules(opened, "no token")
    assert "authentication-rejected" in told.rules(opened, "told off")
    assert "unverifiable-authentication" not in told.rules(opened, "token")


def test_the_evidence_names_the_frames(told, opened):
    row = told.row(opened, "mutual")
    assert row["authentication_confidence"] == "high"
    evidence = {each["kind"]: each for each in row["authentication_evidence"]}
    assert evidence["tls.client_certificate"]["value"] == "sent"
    assert evidence["tls.client_certificate"]["certainty"] == "proven"
    [[capture, frame]] = evidence["tls.client_certificate"]["frames"]
    assert (capture, frame) == (0, 6)  # three of the opening, ClientHello, the server's flight, then this


def test_http_inside_is_told_by_kind(told, opened):
    row = told.row(opened, "token")
    assert row["application"] == "https"
    assert row["http"]["authorization"] == ("bearer",)
    assert row["authentication_observed"] == "tls+oauth2"
    assert [each["verdict"] for each in row["authentication_factors"]] == ["verified", "verified"]


def test_certificates_that_were_hidden_are_judged(told, closed, opened):
    uploader = "cc_uploader"
    assert "certificate-identity" not in told.rules(closed, uploader)
    assert "certificate-identity" in told.rules(opened, uploader)
    both = ("route-emitter-to-bbs", "rep-to-bbs")
    for name, path, component in (
        ("cell.service.cf.internal", "rep-to-bbs", "Rep"),
        ("bbs-client", "route-emitter-to-bbs", "local Route Emitter"),
    ):
        assert told.row(closed, name)["paths"] == both
        assert told.row(opened, name)["paths"] == (path,)
        assert told.row(opened, name)["originator_component"] == component


def test_a_resumed_session_inherits_what_keys_proved(told, closed, opened):
    for report, word in ((closed, "inferred"), (opened, "verified")):
        assert told.row(report, "full")["authentication_verdict"] == word
        resumed = told.row(report, "resumed")
        assert resumed["authentication_verdict"] == "inherited"
        assert f"whose full handshake was {word}" in resumed["authentication_factors"][0]["says"]


# Where the keys come from --------------------------------------------------------------------------------------------


def test_keys_inside_the_capture_are_as_good(told, opened, with_secrets):
    report = told.audit(with_secrets)
    assert told.verdicts(report) == told.verdicts(opened)
    assert report.warnings == ()


def test_frames_are_those_of_the_capture_that_holds_them(told, tmp_path):
    """Of two captures, the one with the handshakes is the second."""
    wire = Wire(now_ns=1_600_000_000_000_000_000)
    Talk(wire, CELL, 39_000, DATABASE, 8889).opens().closes()
    earlier = write(wire, tmp_path / "earlier.pcap")
    report = auditor.audit([earlier, told.capture], inventory=told.inventory, keylog=told.keylog)
    evidence = {each["kind"]: each for each in told.row(report, "mutual")["authentication_evidence"]}
    assert evidence["tls.client_certificate"]["frames"] == [[1, 6]]


def test_without_tshark_the_wire_decides_and_a_line_says_so(told, closed, with_secrets, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    for report in (told.audit(keylog=told.keylog), told.audit(with_secrets)):
        assert told.verdicts(report) == told.verdicts(closed)
        [line] = report.warnings
        assert "tshark" in line
        assert line.endswith("verdicts rest on the packets alone")
    arguments = ["audit", str(told.capture), "--inventory", str(told.inventory), "--keylog", str(told.keylog)]
    assert main([*arguments, "--format", "csv"]) == 1
    assert "tshark is not installed" in capsys.readouterr().err


def test_a_key_log_that_opens_nothing_is_said(told, closed, tmp_path):
    other = tmp_path / "other.log"
    other.write_text("CLIENT_RANDOM " + "00" * 32 + " " + "11" * 48 + "\n")
    report = told.audit(keylog=other)
    assert told.verdicts(report) == told.verdicts(closed)
    [line] = report.warnings
    assert "the keys open none of" in line


def test_a_stream_is_not_decrypted_and_that_is_said(told, closed):
    stream = io.BytesIO(told.capture.read_bytes())
    report = auditor.audit(stream, inventory=told.inventory, keylog=told.keylog)
    assert told.verdicts(report) == told.verdicts(closed)
    [line] = report.warnings
    assert "is a stream" in line


def test_a_key_log_that_cannot_be_read_ends_before_the_audit(told, tmp_path, capsys):
    with pytest.raises(InputError, match=r"gone\.log: no such file"):
        told.audit(keylog=tmp_path / "gone.log")
    empty = tmp_path / "empty.log"
    empty.touch()
    assert main(["audit", str(told.capture), "--keylog", str(empty)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "is empty" in line


# Secrets -------------------------------------------------------------------------------------------------------------


def test_no_output_holds_what_was_decrypted_nor_a_key(told, opened, tmp_path, monkeypatch):
    lines = told.keylog.read_text().splitlines()
    keys = [line.split()[2] for line in lines if line and not line.startswith("#")]
    for name in format_names():
        out = tmp_path / f"report.{name}"
        opened.write(name, out)
        files = [each for each in out.rglob("*") if each.is_file()] if out.is_dir() else [out]
        for data in (each.read_bytes() for each in files):
            data = told_by(data).encode() if name == "html" else data  # noqa: PLW2901  # what is packed, too
            assert TOKEN.encode() not in data
            assert not any(key.encode() in data for key in keys)
    left = tmp_path / "tmp"
    left.mkdir()
    monkeypatch.setenv("TMPDIR", str(left))
    told.audit(keylog=told.keylog)
    assert list(left.rglob("*")) == []


# What is inside, and whose certificates --------------------------------------------------------------------------------


def _one(folder: Path, client: str, server: str, port: int, made: Secure, **more: Any) -> tuple[dict[str, Any], ...]:
    """One connection, without and with its keys, each with the rules of its findings."""
    wire = Wire()
    secured(Talk(wire, client, 40_001, server, port), folder / "keys.log", made)
    capture, inventory = write(wire, folder / "one.pcap"), folder / "vms.yml"
    inventory.write_text(VMS)
    found = []
    for keylog in (None, folder / "keys.log"):
        report = auditor.audit(capture, inventory=inventory, keylog=keylog, **more)
        rule_of = dict(zip(report.findings["id"], report.findings["rule"], strict=True))
        [row] = report.connections.to_dict("records")
        # The certificates of these talks are of another day than the packets; that is no matter here.
        found.append(row | {"rules": {rule_of[each] for each in row["findings"]} - {"certificate-expired"}})
    return tuple(found)


@pytest.mark.parametrize("version", [V12, V13])
def test_another_protocol_inside_tls_is_the_wrong_application(tmp_path, tshark, version):
    """Mutual TLS took place, and SSH is what it carries to the CC uploader."""
    made = Secure(version, says=b"SSH-2.0-Go\r\n", answers=b"SSH-2.0-dropbear_2022.83\r\n")
    closed, opened = _one(tmp_path, CELL, BRAIN, 9091, made)
    assert (closed["application"], opened["application"]) == ("tls", "ssh")
    assert (closed["rules"], opened["rules"]) == (set(), {"wrong-application"})
    assert opened["authentication_verdict"] == "verified"
    assert opened["ssh"]["server_software"] == "dropbear_2022.83"
    assert opened["tls"]["client_certificate"] == "sent"


def test_ssh_inside_tls_at_a_host_port_is_the_documented_path(tmp_path, tshark):
    made = Secure(says=b"SSH-2.0-Go\r\n", answers=b"SSH-2.0-diego-ssh-daemon\r\n")
    closed, opened = _one(tmp_path, BRAIN, CELL, 61_012, made)
    assert (closed["authentication_verdict"], opened["authentication_verdict"]) == ("inferred", "verified")
    assert (opened["application"], opened["rules"]) == ("ssh", set())


def test_what_is_inside_and_known_to_nobody_changes_nothing(tmp_path, tshark):
    made = Secure(says=b"\x00\x01\xfe\xed" * 9, answers=b"\x00\x02\xfe\xed" * 9)
    closed, opened = _one(tmp_path, CELL, BRAIN, 9091, made)
    assert (closed["application"], opened["application"]) == ("tls", "tls")
    assert (closed["rules"], opened["rules"]) == (set(), set())


def test_the_servers_certificate_is_judged_where_only_keys_show_it(tmp_path, tshark):
    """A path of TLS alone is verified on the wire; TLS 1.3 hides whose certificate it was."""
    authority = tmp_path / "others.crt"
    authority.write_bytes(Path(issue(tmp_path, "somebody else", "somebody else")).read_bytes())
    closed, opened = _one(tmp_path, CELL, BRAIN, 8447, Secure(ask=False, answers=LONG), ca=[str(authority)])
    assert (closed["authentication_verdict"], opened["authentication_verdict"]) == ("verified", "verified")
    assert (closed["rules"], opened["rules"]) == (set(), {"certificate-untrusted"})
