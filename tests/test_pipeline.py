"""The whole audit, where its stages meet: certificates that tell components apart, keys that open what the wire hides."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import auditor
from auditor.api import Report
from auditor.model.facts import Facts
from auditor.model.judgement import Classification, Disposition
from auditor.pipeline import attribute
from auditor.policy.certificates import CertificateJudge
from auditor.policy.inventory import load_inventory
from auditor.policy.loader import load_policy
from tests.conftest import ROOT
from tests.doubling import frames_of
from tests.policy.conftest import VMS, Foundation
from tests.policy.test_certificates import Wire, make

SAMPLE = ROOT / "captures" / "sample"
FRAMES = f"{len(frames_of(SAMPLE / 'diego.pcapng')[1]):,}"


@pytest.fixture(scope="module")
def healthy() -> Report:
    return auditor.audit("sample:healthy")


# Components ----------------------------------------------------------------------------------------------------------


def test_certificates_tell_the_route_emitter_from_the_rep(healthy: Report) -> None:
    """Both live on a cell and call the BBS on one port: rows 9 and 12 of the table."""
    cells = healthy.connections.query("originator_role == 'diego_cell' and responder_port == 8889")
    told = {row.paths: row.originator_component for row in cells.itertuples()}
    assert told == {("route-emitter-to-bbs",): "local Route Emitter", ("rep-to-bbs",): "Rep"}
    assert set(cells["responder_component"]) == {"BBS"}
    seen = healthy.coverage.set_index("path")["connections"]
    assert seen["route-emitter-to-bbs"] == seen["rep-to-bbs"] == 1


def test_where_one_certificate_serves_several_components_all_their_paths_stay(healthy: Report) -> None:
    brains = healthy.connections.query("originator_role == 'diego_brain' and responder_port == 8889")
    assert set(brains["paths"]) == {("auctioneer-to-bbs", "ssh-proxy-to-bbs")}
    assert brains["originator_component"].isna().all()


def test_coverage_counts_every_connection_on_each_path_it_is_left_with(healthy: Report) -> None:
    counted = Counter(path for paths in healthy.connections["paths"] for path in paths)
    told = healthy.coverage.set_index("path")
    seen = told["connections"] + told["attempts"]
    assert counted == seen[seen > 0].to_dict()


@pytest.fixture
def foundation(tmp_path: Path) -> Foundation:
    (tmp_path / "vms.yml").write_text(VMS)
    policy = load_policy()
    return Foundation(policy, load_inventory([str(tmp_path / "vms.yml")], policy))


def test_a_narrowed_classification_is_made_once_and_speaks_of_what_is_left(foundation: Foundation) -> None:
    wire = Wire(foundation.policy)
    plain = foundation.says("cell", "database", 8889)
    rep, emitter = (wire.facts([make(name)]) for name in ("cell.service.cf.internal", "bbs-client"))
    facts = [rep, None, emitter, rep, Facts({"tls.client_hello": True}), Facts(dict(rep.shared))]
    judge = CertificateJudge(wire.der, wire.policy)
    told, class_of = attribute(facts, [plain], np.zeros(6, np.int32), judge)
    assert class_of.tolist() == [1, 0, 2, 1, 0, 1]
    assert told[0] is plain
    assert [(each.paths, each.orig_component, each.says) for each in told[1:]] == [
        (("rep-to-bbs",), "Rep", "documented: rep-to-bbs"),
        (("route-emitter-to-bbs",), "local Route Emitter", "documented: route-emitter-to-bbs"),
    ]
    assert {each.required for each in told} == {"mutual_tls"}


def test_a_vm_of_many_roles_is_told_the_role_of_the_path_that_is_left(foundation: Foundation) -> None:
    """The control VM of a Small Footprint is brain and database in one."""
    wire = Wire(foundation.policy)
    plain = Classification(
        Disposition.DOCUMENTED,
        ("auctioneer-to-rep", "bbs-to-rep"),
        orig_role="diego_brain",
        resp_role="diego_cell",
        required="mutual_tls",
        orig_holds=frozenset({"auctioneer", "bbs"}),
        matched_by=(("diego_brain", "diego_cell"), ("diego_database", "diego_cell")),
    )
    facts = wire.facts([make("auctioneer-client")])
    told, class_of = attribute([facts], [plain], np.zeros(1, np.int32), CertificateJudge(wire.der, wire.policy))
    found = told[class_of[0]]
    assert (found.paths, found.orig_component) == (("bbs-to-rep",), "BBS")
    assert (found.orig_role, found.resp_role) == ("diego_database", "diego_cell")


def test_attributing_costs_a_look_a_connection(foundation: Foundation) -> None:
    wire = Wire(foundation.policy)
    plain = foundation.says("cell", "database", 8889)
    kinds = [wire.facts([make(name)]) for name in ("cell.service.cf.internal", "bbs-client", "x")]
    facts = [Facts(kinds[k % 3].shared) for k in range(100_000)]
    judge = CertificateJudge(wire.der, wire.policy)
    begun = time.process_time()
    told, _ = attribute(facts, [plain], np.zeros(len(facts), np.int32), judge)
    assert (time.process_time() - begun) / len(facts) < 5e-6
    assert len(told) <= 4


# Authorities ---------------------------------------------------------------------------------------------------------

CAS = SAMPLE / "diego.ca"


def untrusted(report: Report) -> set[str]:
    rows = report.findings.query("rule == 'certificate-untrusted'")
    return set(rows["path"])


def test_an_authority_is_asked_of_the_paths_that_it_is_given_for() -> None:
    """NATS has an authority of its own: what it shows leads to that, and not to the other."""
    right, wrong = f"nats={CAS / 'natsCA.crt'}", f"nats={CAS / 'uaaCA.crt'}"
    known = auditor.audit("sample:diego", ca=right)
    assert untrusted(known) == set()
    assert untrusted(auditor.audit("sample:diego", ca=[wrong])) == {"route-emitter-to-nats"}
    assert known.info["options"]["ca"] == [right]
    assert f'"ca":["{right}"]' in known.to_json().replace(" ", "")


def test_an_audit_that_judged_nothing_does_not_look_clean(tmp_path):
    """The inventory of another platform: every connection is out of scope, and that is no clean result."""
    import auditor

    other = tmp_path / "other.yml"
    other.write_text("- {ip: 172.16.9.9, name: x/0, role: diego_cell}\n", encoding="utf-8")
    report = auditor.audit("sample:diego", inventory=str(other))
    assert report.summary["sufficiency"]["complete"] is False
    assert report.exit_status() == 3
    assert _words(report).startswith("NOTHING AUDITED (no connection has an end that the inventory knows as Diego's): ")


def _words(report):
    return " ".join(report.to_table().split())


def test_what_is_said_of_nothing_judged_is_true_in_each_case(tmp_path, frame_of_a_stranger):
    import auditor

    report = auditor.audit(str(frame_of_a_stranger))
    says = "NOTHING AUDITED (no connection has an end that looks like a Diego VM's; add --inventory FILE): "
    assert says in _words(report)
    assert "incomplete: connections, none of them in scope: 1 " in _words(report)
    long_ago = auditor.audit("sample:diego", until=1)
    assert "NOTHING AUDITED (no connection in that time), to 1970-01-01 00:00:00.000000001 UTC only: " in _words(
        long_ago
    )
    assert "none of them in scope" not in _words(long_ago)
    unread = auditor.audit("sample:diego", linktype=9_999)
    assert "NOTHING AUDITED (no connection): " in _words(unread)


@pytest.fixture
def frame_of_a_stranger(tmp_path):
    """A capture of one DNS question between two machines that are nobody's."""
    from scapy.layers.dns import DNS, DNSQR
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether
    from scapy.utils import wrpcap

    file = tmp_path / "dns.pcap"
    ask = Ether() / IP(src="192.0.2.1", dst="192.0.2.53") / UDP(sport=4_000, dport=53) / DNS(qd=DNSQR(qname="x.test"))
    ask.time = 1_795_300_000
    wrpcap(str(file), [ask])
    return file


@pytest.mark.parametrize("command", ["audit", "connections"])
def test_a_link_type_that_is_not_read_is_told(command, capsys):
    from auditor import api
    from auditor.cli import main

    assert main([command, "sample:diego", "--linktype", "9999", "--format", "csv"]) == 3
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert (
        f"auditor: incomplete: 1 of 1 captures hold what is not read ({FRAMES} of {FRAMES} frames are of link type 9999"
        in err
    )
    report = api.audit("sample:diego", linktype=9_999)
    assert report.summary["sufficiency"]["reasons"] == {"no_connection_in_scope": 0, "unsupported_captures": 1}
    [[problem]] = report.captures["problems"].tolist()
    assert problem["kind"] == "unsupported"


@pytest.fixture
def cut_in_its_header(tmp_path):
    """One packet, of which a snap length left the beginning of an IP header."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.l2 import Ether
    from scapy.utils import PcapWriter

    file = tmp_path / "cut.pcap"
    whole = bytes(
        Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="192.0.2.1", dst="192.0.2.2") / TCP()
    )
    with PcapWriter(str(file), linktype=1) as writer:
        writer.write_header(None)
        writer.write_packet(whole[:20], sec=1_795_300_000, usec=0, wirelen=len(whole))
    return file


@pytest.mark.parametrize(
    ("command", "form"), [("audit", "csv"), ("audit", "json"), ("connections", "csv"), ("connections", "table")]
)
def test_frames_of_which_no_header_makes_sense_are_told(command, form, cut_in_its_header, capsys):
    from auditor.cli import main

    says = "auditor: incomplete: 1 of 1 captures hold what is not read (of {} none is in a connection; {})"
    assert main([command, "sample:diego", "--linktype", "101", "--format", form]) == 3
    assert says.format(f"{FRAMES} frames", f"malformed header: {FRAMES}") in capsys.readouterr().err
    assert main([command, str(cut_in_its_header), "--format", form]) == 3
    assert says.format("1 frames", "header cut off: 1") in capsys.readouterr().err


@pytest.mark.parametrize("form", ["csv", "table"])
def test_packets_without_a_connection_are_no_loss_and_no_silence(form, capsys):
    """What holds nothing of IP, as it seems."""
    from auditor.cli import main

    assert main(["connections", "sample:diego", "--linktype", "113", "--format", form]) == 0
    assert capsys.readouterr().err == ("auditor: no connection in these packets: no IP, or another link type\n")


def test_a_capture_without_packets_is_told(tmp_path, capsys):
    from auditor.cli import main

    empty = tmp_path / "empty.pcap"
    empty.write_bytes((SAMPLE / "healthy.pcap").read_bytes()[:24])
    assert main(["connections", str(empty)]) == 0
    assert capsys.readouterr().err == "auditor: no packets\n"


def test_no_captures_at_all_is_said():
    import auditor
    from auditor.errors import InputError

    with pytest.raises(InputError, match="none were named"):
        auditor.audit([])
