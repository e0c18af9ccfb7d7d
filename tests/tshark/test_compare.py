"""Our fields beside tshark's: of conversations made here, and of every public capture that has any."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from auditor import api
from auditor.cli import main
from auditor.errors import InputError
from auditor.tshark.compare import Agreement, Difference, as_lines, compare, ours_of
from auditor.tshark.dissect import Flow
from tests.conftest import BY_NIGHT, by_day
from tests.conversation import Talk, Wire
from tests.tshark.talks import Secure, secured, write

pytestmark = pytest.mark.tshark
ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tshark-agreement.md"


def http(body: bytes = b"", *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


def asks(*headers: bytes, target: bytes = b"/") -> bytes:
    return b"\r\n".join([b"GET " + target + b" HTTP/1.1", b"Host: a", *headers, b"", b""])


def compared(wire: Wire, folder: Path) -> Agreement:
    path = write(wire, folder / "talk.pcap")
    return compare(path, ours_of(api.connections([str(path)]).audit.connections))


def equal(told: Agreement) -> dict[str, int]:
    return {name: count for name, _, count, _, _, _ in told.rows() if count}


def test_what_both_read_is_equal(tmp_path, tshark):
    wire = Wire()
    secured(Talk(wire, cport=40_001, sport=8889), tmp_path / "keys", Secure())
    talk = Talk(wire, cport=40_002, sport=8080).opens()
    talk.says(asks(b"Authorization: Basic planted")).answers(http(b"{}"))
    talk.says(asks(b"Cookie: planted", target=b"/x?md5=planted&expires=1")).answers(http(b"{}")).closes()
    told = compared(wire, tmp_path)
    assert told.differences == []
    assert told.connections == 2
    assert equal(told) == {
        **dict.fromkeys(("tls.client_hello", "tls.sni", "tls.server_hello", "tls.version", "tls.cipher"), 1),
        **dict.fromkeys(("http.version", "http.method", "http.authorization", "http.signed_url", "http.cookie", "http.statuses"), 1),
    }  # fmt: skip
    assert "planted" not in "".join(as_lines(told))


def test_a_difference_has_the_cause_that_its_packets_show(tmp_path, tshark):
    wire = Wire()
    late = Talk(wire, cport=40_001, sport=8080).opens().says(asks()).answers(http(b"x" * 33_000))
    late.says(asks()).answers(http()).closes()
    cut = Talk(wire, cport=40_002, sport=8080).opens().says(asks()).answers(http(b"x" * 500)[:300])
    assert cut
    told = compared(wire, tmp_path)
    by_cause = {(each.field, each.cause) for each in told.differences}
    beyond = "beyond the first 8 KiB of a direction, which is all that is kept here"
    whole = "tshark tells a message when it is whole, and the capture lacks its end"
    assert by_cause == {
        ("http.statuses", beyond),
        ("http.statuses", whole),
    }
    assert told.unexplained == []


def test_a_mistake_is_unexplained_and_shown(tmp_path, tshark):
    """The check can fail: a fact that is not so has no cause."""
    wire = Wire()
    Talk(wire, cport=40_001, sport=8080).opens().says(asks()).answers(http()).closes()
    path = write(wire, tmp_path / "talk.pcap")
    table = api.connections([str(path)]).audit.connections
    [mine] = ours_of(table)
    wrong = type(mine)(mine.id, mine.flow, {**mine.facts, "http.method": "PUT"}, mine.incomplete)
    told = compare(path, [wrong])
    assert [(each.field, each.ours, each.theirs) for each in told.unexplained] == [("http.method", "PUT", "GET")]
    assert list(as_lines(told))[-1].endswith("http.method: ours 'PUT', tshark's 'GET'")


def test_nothing_to_compare_and_nothing_to_read(tmp_path, tshark):
    wire = Wire()
    Talk(wire, cport=40_001, sport=8080).opens().closes()
    path = write(wire, tmp_path / "talk.pcap")
    assert compare(path, []).connections == 0
    gone = tmp_path / "gone.pcap"
    with pytest.raises(InputError, match="no such file"):
        compare(gone, ours_of(api.connections([str(path)]).audit.connections))


def test_sums_of_captures():
    one, two = Agreement(connections=1, tshark="4"), Agreement(connections=2)
    one.equal["tls.sni"] = two.equal["tls.sni"] = 1
    two.differences.append(Difference("a", "c", "tls.sni", "x", None, "because"))
    one.add(two)
    assert (one.connections, one.tshark, one.causes()) == (3, "4", [("because", 1)])
    assert ("tls.sni", 3, 2, 1, 0, 0) in one.rows()


@pytest.mark.parametrize("form", ["text", "json"])
def test_as_a_user_asks(tmp_path, tshark, capsys, form):
    wire = Wire()
    Talk(wire, cport=40_001, sport=8080).opens().says(asks()).answers(http()).closes()
    path = write(wire, tmp_path / "talk.pcap")
    assert main(["dissect", str(path), "--compare", "--format", form, "--progress", "never"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    if form == "json":
        told = json.loads(said.out)
        assert (told["schema"], told["connections"], told["differences"]) == ("auditor.agreement/1", 1, [])
        assert {
            "field": "http.method",
            "compared": 1,
            "equal": 1,
            "only_ours": 0,
            "only_tshark": 0,
            "differ": 0,
        } in told["fields"]
    else:
        assert said.out.splitlines()[0].split() == [
            "field",
            "compared",
            "equal",
            "only",
            "ours",
            "only",
            "tshark",
            "differ",
        ]


@pytest.mark.parametrize("more", [[], ["--compare", "--connection", "abcdef"], ["--compare", "--keylog", "x"]])
def test_one_thing_is_asked_at_a_time(tmp_path, tshark, capsys, more):
    assert main(["dissect", "sample:healthy", *more]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_flow_is_made_of_every_row(tmp_path):
    wire = Wire()
    Talk(wire, cport=40_001, sport=8080).opens().says(asks()).closes()
    path = write(wire, tmp_path / "talk.pcap")
    [mine] = ours_of(api.connections([str(path)]).audit.connections)
    assert mine.flow == Flow(
        "tcp", "10.0.1.10", 40_001, "10.0.2.20", 8080, mine.flow.first_ns, mine.flow.last_ns, "http"
    )
    assert 0 < mine.flow.first_ns < mine.flow.last_ns


# Public captures


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_agreement", ROOT / "docs" / "make_agreement.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_difference_on_public_captures_has_its_cause(public_captures, tshark):
    """All of them take minutes: by night the page is compared, too; by day some."""
    made = script()
    paths = list(made.chosen(public_captures))
    assert len(paths) > 300
    told = made.agreement(list(by_day(paths, 12)), public_captures)
    print("\n".join(as_lines(told)))
    assert told.unexplained == []
    assert sum(told.equal.values()) >= (3_400 if BY_NIGHT else 150)
    page = PAGE.read_text()
    assert f"over the {len(paths)} public captures" in page
    assert all(f"| {row[0]} | " in page for row in told.rows())
    if BY_NIGHT and f"tshark {told.tshark})" in page:  # another version of tshark may differ elsewhere
        assert page == made.page(told, len(paths)), "run docs/make_agreement.py"
