"""What one pass hands to the next: cut into files and passes anywhere, the story of every connection stays the same."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scapy.utils import PcapReader, PcapWriter

from auditor import pipeline
from auditor.inspectors._examine import Examiner
from auditor.inspectors._masked import masked
from auditor.model.connections import CONN
from auditor.pass_state import PassState, PassStateLimits, load
from auditor.policy.inventory import load_inventory
from auditor.policy.loader import load_policy
from tests.conftest import ROOT
from tests.jobs.crashing import split

SAMPLE = ROOT / "captures" / "sample" / "healthy.pcap"
DIEGO = SAMPLE.with_name("diego.pcapng")
APPLICATIONS = Examiner().applications
COUNTED = (
    "originator_packets",
    "responder_packets",
    "originator_bytes",
    "responder_bytes",
    "payload_bytes",
    "missed_bytes",
)
SAME = {
    "verified": {"verified", "inherited"},
    "inferred": {"inferred", "inherited"},
    "inherited": {"inherited"},
    "unverifiable": {"unverifiable"},
    "not_applicable": {"not_applicable"},
}


@pytest.fixture(scope="module")
def judged():
    policy = load_policy(["tas-diego"])
    known = {
        name: load_inventory([str(SAMPLE.with_name(f"{name}.inventory.yml"))], policy) for name in ("healthy", "diego")
    }

    def audit(files, pass_state=None, who="healthy"):
        def follow(sources, options, progress):
            return [pipeline.follow_one(each, k, options, False) for k, each in enumerate(sources)]

        options = {"scope": "diego", "strict": False}
        return pipeline.run(
            list(map(str, files)),
            policy=policy,
            inventory=known[who],
            options=options,
            follow=follow,
            pass_state=pass_state,
        )

    return audit


@pytest.fixture(scope="module")
def whole(judged):
    return judged([SAMPLE])


def written(tmp_path, pieces):
    files = []
    for k, piece in enumerate(pieces):
        files.append(tmp_path / f"{k}.pcap")
        files[-1].write_bytes(piece)
    return files


def in_passes(judged, files, limits=None):
    """One pass a file, with what is handed on written and read in between; and what was handed on last."""
    limits = limits or PassStateLimits()
    pass_state, audits = PassState(limits), []
    for file in files:
        audits.append(judged([file], pass_state))
        pass_state = load(pass_state.dump(APPLICATIONS), APPLICATIONS, limits)
        assert pass_state is not None
    return audits, pass_state


@pytest.mark.parametrize("parts", [2, 3, 7, 19])
def test_a_connection_that_spans_files_is_one_and_is_counted_once(judged, whole, tmp_path, parts):
    audits, _ = in_passes(judged, written(tmp_path, split(SAMPLE, parts)))
    rows = pd.concat([audit.connections for audit in audits])
    one = whole.connections
    ends = ["originator_ip", "originator_port", "responder_ip", "responder_port", "transport"]
    for column in COUNTED[:5]:
        assert rows[column].sum() == one[column].sum(), column
    assert rows["id"].nunique() == len(one)
    assert (rows.groupby(ends, observed=True)["id"].nunique() == 1).all()
    # Where a cut falls between a SYN and its answer the id is the one it had first; all others are those of one pass.
    strange = set(rows["id"]) - set(one["id"])
    assert all(rows[rows["id"] == name]["conn_state"].astype(str).iloc[0] == "S0" for name in strange)
    assert (rows.groupby("id")["start"].nunique() == 1).all()


@pytest.mark.parametrize("parts", [2, 7])
def test_what_was_judged_keeps_its_verdict_as_inherited(judged, whole, tmp_path, parts):
    audits, _ = in_passes(judged, written(tmp_path, split(SAMPLE, parts)))
    rows = pd.concat([audit.connections.assign(audit=audit.info["id"]) for audit in audits])
    verdicts = dict(zip(whole.connections["id"], whole.connections["authentication_verdict"].astype(str), strict=True))
    found = Counter()
    for name, group in rows.groupby("id"):
        if name not in verdicts:
            continue
        last = group.iloc[-1]
        verdict = str(last["authentication_verdict"])
        assert verdict in SAME[verdicts[name]] or last["application"] == "http", (
            name,
            verdict,
            verdicts[name],
        )
        found[verdict] += 1
        if verdict == "inherited" and verdicts[name] != "inherited":
            first = {each["kind"]: each for each in last["authentication_evidence"]}["inherited.audit"]
            assert first["value"] in set(group["audit"]) - {last["audit"]}, "the evidence names the audit that saw it"
            assert (first["certainty"], first["frames"]) == ("inherited", [])
            assert all(factor["verdict"] == "inherited" for factor in last["authentication_factors"])
    assert found["inherited"] >= 1


def test_without_what_was_handed_on_nothing_could_be_said(judged, tmp_path):
    files = written(tmp_path, split(SAMPLE, 3))
    alone = judged([files[2]]).connections
    audits, _ = in_passes(judged, files)
    undecided = [
        (frame["authentication_verdict"].astype(str) == "unverifiable").sum()
        for frame in (alone, audits[2].connections)
    ]
    assert undecided[0] > undecided[1]


def test_the_same_packets_from_another_place_are_not_counted_again(judged, tmp_path):
    """Two VMs saw the same hour; their files come in two passes."""
    audits, _ = in_passes(judged, [SAMPLE, SAMPLE])
    assert len(audits[0].connections) == 28
    assert len(audits[1].connections) == 0
    assert audits[1].captures["packets"].sum() == audits[0].captures["packets"].sum(), "the file itself is told"


def test_what_is_handed_on_is_bounded_and_says_what_was_dropped(judged):
    pass_state = PassState(PassStateLimits(max_connections=5))
    judged([SAMPLE], pass_state)
    assert (len(pass_state), pass_state.dropped) == (5, 23)
    kept = pass_state.part.rows["last_ns"].min()
    pass_state = PassState(PassStateLimits(remember_ns=0))
    judged([SAMPLE], pass_state)
    assert len(pass_state) < 28, "closed connections are forgotten at once"
    assert kept > 0


def conversations(source, ports):
    """The packets of each TCP connection of a pcapng that has one of these ports, as pcap has them; and a pcap's header."""
    out = io.BytesIO()
    writer = PcapWriter(out)
    with PcapReader(str(source)) as packets:
        for packet in packets:
            writer.write(packet)
    writer.flush()
    raw = out.getvalue()
    found, at = {}, 24
    while at < len(raw):
        end = at + 16 + int.from_bytes(raw[at + 8 : at + 12], "little")
        frame = raw[at + 16 : end]
        ends = sorted((frame[k : k + 4], frame[j : j + 2]) for k, j in ((26, 34), (30, 36)))
        if frame[12:14] == b"\x08\0" and frame[23] == 6 and any(int.from_bytes(port) in ports for _, port in ends):
            found.setdefault(tuple(ends), []).append(raw[at:end])
        at = end
    return raw[:24], list(found.values())


@pytest.fixture(scope="module")
def logins():
    return conversations(DIEGO, {3306, 4222, 4223, 4224, 4225})


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_login_that_two_passes_share_is_judged_as_a_whole(judged, logins, tmp_path, cut):
    """NATS and MySQL, accepted, refused, unchecked and without a password, in the clear and in TLS: each cut after so many of its packets."""
    header, talks = logins
    # All at the same time, a packet of each every tenth of a second.
    hour = [
        (number, at.to_bytes(4, "little") + (100_000 * number % 1_000_000 + k).to_bytes(4, "little") + packet[8:])
        for number in range(max(map(len, talks)))
        for at in [1_795_300_000 + number // 10]
        for k, packet in enumerate(talk[number] for talk in talks if number < len(talk))
    ]
    names = ("whole", "first", "second")
    files = {name: tmp_path / f"{name}.pcap" for name in names}
    for name, some in zip(names, (range(99), range(cut), range(cut, 99)), strict=True):
        files[name].write_bytes(header + b"".join(packet for number, packet in hour if number in some))
    whole = judged([files["whole"]], who="diego").connections.set_index("id")
    pass_state = PassState()
    judged([files["first"]], pass_state, who="diego")
    for _, data in pass_state.part.pending.values():
        assert not any(b"this-is-no-password" in (text or b"") for text in data)
        assert masked(data) == data, "what is kept is masked"
    pass_state = load(pass_state.dump(APPLICATIONS), APPLICATIONS, PassStateLimits())
    rows = judged([files["second"]], pass_state, who="diego").connections
    told = whole["authentication_verdict"].astype(str).to_dict()
    assert len(rows) == sum(len(talk) > cut for talk in talks)
    for name, verdict in zip(rows["id"], rows["authentication_verdict"].astype(str), strict=True):
        # Between a SYN and its answer the id is the one it had first.
        if name in told:
            assert (
                verdict in {told[name], "inherited"}
                if told[name] in ("verified", "inferred")
                else verdict == told[name]
            )
    assert {"verified", "violated", "rejected"} <= set(told.values())


def test_no_payload_is_handed_on_but_of_handshakes(judged, tmp_path):
    """Cut after every packet: what is kept of first bytes is of handshakes and logins, with what is secret masked, of connections that are open."""
    pass_state = PassState()
    seen = 0
    for file in written(tmp_path, split(SAMPLE, 60)):
        judged([file], pass_state)
        for _, data in pass_state.part.pending.values():
            seen += 1
            assert masked(data) == data
            assert not any(b"this-is-no-password" in (text or b"") for text in data)
        raw = pass_state.dump(APPLICATIONS)
        pass_state = load(raw, APPLICATIONS, PassStateLimits())
    assert seen


def test_what_another_version_wrote_is_left(judged):
    pass_state = PassState()
    judged([SAMPLE], pass_state)
    raw = pass_state.dump(APPLICATIONS)
    assert load(raw[:-10], APPLICATIONS, PassStateLimits()) is None
    assert load(b"", APPLICATIONS, PassStateLimits()) is None
    assert load(b"\x28\xb5\x2f\xfd" + bytes(20), APPLICATIONS, PassStateLimits()) is None
    back = load(raw, tuple(reversed(APPLICATIONS)), PassStateLimits())
    names = [APPLICATIONS[k] for k in pass_state.part.rows["application"]]
    assert [tuple(reversed(APPLICATIONS))[k] for k in back.part.rows["application"]] == names
    assert back.part.rows.dtype == CONN
    assert np.array_equal(back.part.rows["first_ns"], pass_state.part.rows["first_ns"])
