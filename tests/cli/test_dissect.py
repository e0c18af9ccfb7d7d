"""``auditor dissect``: from an id to a tree, and every way it may fail in a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auditor import api
from auditor.cli import main
from tests.tshark.talks import Secure, Talk, Wire, secured, write
from tests.tshark.test_process import fake

QUIET = ("--progress", "never")


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> tuple[Path, Path, str, str]:
    """A capture, its key log, the id of a connection in TLS and of one in the clear."""
    folder = tmp_path_factory.mktemp("dissect")
    wire = Wire()
    says = b"GET /x?sig=planted-signature HTTP/1.1\r\nHost: bbs\r\nAuthorization: Bearer planted-token\r\n\r\n"
    secured(Talk(wire, cport=40_001, sport=8889), folder / "keys.log", Secure(says=says))
    Talk(wire, cport=40_002, sport=8080).opens().says(says).answers(
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    ).closes()
    path = write(wire, folder / "both.pcap")
    ids = {int(row.responder_port): str(row.id) for row in api.connections(str(path)).connections.itertuples()}
    return path, folder / "keys.log", ids[8889], ids[8080]


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(["dissect", *map(str, arguments), *QUIET])
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.mark.tshark
def test_as_text_and_as_json(capture, capsys, tshark):
    path, keylog, tls, clear = capture
    for one, more in ((clear, ()), (tls, ("--keylog", keylog))):
        for form in ("text", "json"):
            status, out, err = run(capsys, path, "--connection", one, "--format", form, *more)
            assert (status, err) == (0, "")
            assert "http.authorization: Bearer (masked)" in out
            assert "planted" not in out
            if form == "json":
                told = json.loads(out)
                assert (told["schema"], told["connection"]) == ("auditor.dissect/1", one)
                assert told["frames"][0]["layers"][0]["name"] == "frame"


@pytest.mark.tshark
def test_the_start_of_an_id_will_do(capture, capsys, tshark):
    status, out, _ = run(capsys, capture[0], "--connection", capture[3][:8])
    assert status == 0
    assert "Src Port: 40002" in out


@pytest.mark.tshark
def test_fewer_frames_than_there_are_is_said(capture, capsys, tshark):
    status, out, err = run(capsys, capture[0], "--connection", capture[3], "--limit", 2)
    assert status == 0
    assert out.count("\nEthernet II") == 2
    assert err == "auditor: 2 frames are shown, more exist (--limit)\n"


@pytest.mark.tshark
def test_a_damaged_capture_is_told(capture, capsys, tmp_path, tshark):
    path = tmp_path / "cut.pcap"
    path.write_bytes(capture[0].read_bytes()[:-7])
    status, out, err = run(capsys, path, "--connection", capture[3])
    assert status == 3
    assert "Frame" in out
    assert "cut short" in err
    assert err.count("\n") == 1


@pytest.mark.tshark
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--connection", "nonesuch"), "no connection with the id"),
        (("--connection", ""), "no connection with the id"),
        (("--connection", "x", "--format", "xml"), "--format: unknown value 'xml'"),
        (("--connection", "x", "--limit", "0"), "--limit: '0' is not such a number"),
        (("--connection", "x", "--timeout", "soon"), "--timeout: 'soon' is not such a number"),
        (("--connection", "x", "--keylog", "gone.log"), "gone.log: no such file"),
        ((), "--connection: name one connection, or --compare"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(arguments, says, capture, capsys, tshark):
    status, out, err = run(capsys, capture[0], *arguments)
    assert (status, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_without_tshark(capture, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    status, out, err = run(capsys, capture[0], "--connection", capture[3])
    assert (status, out) == (2, "")
    assert err.startswith("auditor: tshark is not installed")


def test_a_tshark_that_hangs(capture, capsys, monkeypatch, tmp_path):
    fake(tmp_path, 'case "$*" in *-v*) echo "TShark (Wireshark) 4.0.17";; *) sleep 60;; esac')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    status, out, err = run(capsys, capture[0], "--connection", capture[3], "--timeout", 3)
    assert (status, out) == (2, "")
    assert err.endswith("tshark did not finish in 3 s\n")
