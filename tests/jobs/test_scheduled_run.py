"""Scheduled passes: quiet until something changes, each file once, nothing lost."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from auditor.errors import ConfigError
from auditor.jobs import digest
from auditor.jobs.config import load_config
from auditor.jobs.log import Log
from auditor.jobs.scheduled_run import _run_command, one_pass
from auditor.store.history import open_history
from tests.conftest import ROOT
from tests.jobs.crashing import INVENTORY, SAMPLE, split

SAMPLES = ROOT / "captures" / "sample"
NOW = 1_795_400_000_000_000_000
HOUR = 3_600 * 1_000_000_000


class Spool:
    """A spool, a configuration, and passes over it."""

    def __init__(self, folder, more="", inventory=INVENTORY, spool=""):
        self.folder, self.now, self.lines, self.digests = folder, NOW, [], []
        (folder / "in").mkdir()
        (folder / "run.toml").write_text(
            f'store = "history"\n[spool]\nfolders = ["in"]\nsettle = "0s"\n{spool}[[inventory]]\nfile = "{inventory}"\n{more}'
        )

    def put(self, name, content):
        file = self.folder / "in" / name
        file.write_bytes(content)
        os.utime(file, ns=(self.now, self.now))
        return file

    def run(self, tell=None, later=HOUR):
        self.now += later
        self.lines, kept = [], self.digests
        log = Log(json=True, write=self.lines.append, now_ns=lambda: self.now)
        return one_pass(
            load_config(self.folder / "run.toml"),
            log,
            lambda: self.now,
            tell=tell or (lambda _, told: kept.append(told)),
        )

    def said(self, event):
        return [each for each in map(json.loads, self.lines) if each["event"] == event]

    def history(self):
        return open_history(self.folder / "history")


@pytest.fixture
def place(tmp_path):
    return tmp_path


NOTIFY = '[[notify]]\nname = "team"\nurl = "json://x"\nseverity = "info"\n'
UNDECIDED = "[audit]\nmax_undecided = 20\n"
"""More than the sample holds, so that nothing but its findings is told."""


def diego():
    return (SAMPLES / "diego.pcapng").read_bytes()


def test_findings_are_new_once_and_then_quiet(place):
    spool = Spool(place, NOTIFY + UNDECIDED, SAMPLES / "diego.inventory.yml")
    spool.put("a.pcapng", diego())
    first = spool.run()
    assert (first.files, first.status(False, False)) == (1, 1)
    assert len(spool.digests) == 1
    again = spool.run()
    assert (again.files, again.status(False, False), again.audits) == (0, 0, [])
    # The same packets an hour later: other time stamps would be other content, another name is not.
    spool.put("b.pcapng", diego())
    assert spool.run().files == 0
    assert len(spool.digests) == 1
    with spool.history() as history:
        assert [row.kind for row in history.rows()] == ["run"]


def without(*names):
    """The inventory of the sample, some VMs left out: they are strangers then."""
    return "".join(
        line for line in INVENTORY.read_text().splitlines(keepends=True) if not any(name in line for name in names)
    )


def test_a_second_stranger_is_news_beside_the_first(place):
    spool = Spool(place, NOTIFY, place / "who.yml")
    (place / "who.yml").write_text(without("diego_cell/0"))
    first, second = split(SAMPLE, 2)
    spool.put("1.pcap", first)
    spool.run()
    assert any("10.0.4.20" in each["body"] for each in spool.digests)
    before = len(spool.digests)
    (place / "who.yml").write_text(without("diego_cell/0", "diego_brain/0"))
    spool.put("2.pcap", second)
    outcome = spool.run()
    with spool.history() as history:
        told = {
            each["fingerprint"]: each["status"]
            for each in history.table("findings", 2, ["fingerprint", "status"]).to_pylist()
        }
        earlier = set(history.table("findings", 1, ["fingerprint"])["fingerprint"].to_pylist())
    assert {mark for mark, status in told.items() if status == "continuing"} == earlier & set(told)
    assert earlier & set(told)
    assert outcome.new
    assert "10.0.4.30" in spool.digests[before]["body"]
    assert outcome.status(False, False) == 1


def test_all_gives_the_exit_status_of_an_audit(place):
    spool = Spool(place, "", SAMPLES / "diego.inventory.yml")
    spool.put("a.pcapng", diego())
    assert spool.run().new > 0
    # Another capture of the same facts: a pcapng section may be followed by another (draft-ietf-opsawg-pcapng, section 3.1).
    spool.put("b.pcapng", diego() + diego())
    outcome = spool.run()
    assert outcome.files == 1
    assert (outcome.new, outcome.status(False, True)) == (0, 0)


def test_a_file_that_fails_is_set_aside_and_stops_nothing(place):
    spool = Spool(place, NOTIFY)
    spool.put("0.pcap", b"no capture")
    spool.put("1.pcap", SAMPLE.read_bytes())
    spool.put("2.pcap", SAMPLE.read_bytes()[:24][:10])
    outcome = spool.run()
    assert (outcome.files, len(outcome.aside)) == (1, 2)
    assert outcome.status(False, False) == 3
    assert outcome.status(False, True) == 0
    assert "0.pcap: is not a pcap or pcapng capture" in outcome.aside[0]
    assert any("0.pcap: is not a pcap or pcapng capture" in each["body"] for each in spool.digests)
    again = spool.run()
    assert (again.aside, again.status(False, False)) == ([], 0), "it is told once"
    with spool.history() as history:
        assert history.sql.execute("SELECT count(*) FROM taken WHERE aside IS NOT NULL").fetchone() == (2,)
        assert [each["path"].rsplit("/", 1)[1] for each in history.table("captures", 1).to_pylist()] == ["1.pcap"]


def test_a_spool_of_nothing_but_rubbish_is_no_error(place):
    spool = Spool(place)
    spool.put("0.pcap", b"no capture")
    outcome = spool.run()
    assert (outcome.audits, len(outcome.aside)) == ([], 1)


def test_a_damaged_file_is_audited_and_told_once(place):
    spool = Spool(place)
    spool.put("1.pcap", SAMPLE.read_bytes()[:-7])
    outcome = spool.run()
    assert outcome.files == 1
    assert outcome.status(False, False) == 3
    [reason] = [each for each in outcome.incomplete if each.startswith("damaged")]
    assert "1.pcap: truncated" in reason
    assert spool.run().status(False, False) == 0


def test_audited_files_are_moved_and_what_is_there_is_not_overwritten(place):
    spool = Spool(place, "", INVENTORY)
    text = (
        (place / "run.toml")
        .read_text()
        .replace('settle = "0s"', 'settle = "0s"\nafter = "move"\ndone = "done"\naside = "aside"')
    )
    (place / "run.toml").write_text(text)
    (place / "done").mkdir()
    (place / "done" / "1.pcap").write_bytes(b"another")
    spool.put("1.pcap", SAMPLE.read_bytes())
    spool.put("bad", b"no capture")
    spool.run()
    assert not list((place / "in").iterdir())
    assert (place / "done" / "1.pcap").read_bytes() == b"another"
    [moved] = [each for each in (place / "done").iterdir() if each.name != "1.pcap"]
    assert moved.name.endswith("-1.pcap")
    assert moved.read_bytes() == SAMPLE.read_bytes()
    assert (place / "aside" / "bad.reason").read_text() == "is not a pcap or pcapng capture\n"


def test_reports_are_written_where_something_changed(place):
    more = '[[report]]\nformat = "json"\noutput = "out/{audit}-{date}.json"\non = "change"\n[[report]]\nformat = "csv"\noutput = "out/latest.csv"\n'
    spool = Spool(place, more, SAMPLES / "diego.inventory.yml")
    spool.put("a.pcapng", diego())
    spool.run()
    told = json.loads((place / "out" / "1-2026-11-16.json").read_text())
    assert told["schema"] == "auditor.report/1"
    assert {each["status"] for each in told["findings"]} == {"new"}
    assert all(len(each["sha256"]) == 64 for each in told["captures"])
    assert (place / "out" / "latest.csv").read_text().startswith('"id"')


def test_a_failed_notification_keeps_the_audit_and_is_tried_again_later_and_later(place):
    spool = Spool(place, NOTIFY + "tries = 3\n" + UNDECIDED, SAMPLES / "diego.inventory.yml")
    spool.put("a.pcapng", diego())
    tried = []

    def fail(_section, told):
        tried.append(told["key"])
        raise digest.NotToldError("notify team: the receiver refused it")

    outcome = spool.run(fail)
    assert (outcome.files, outcome.undone) == (1, 1)
    keys = set(tried)
    assert len(tried) == 1
    spool.run(fail)
    assert len(tried) == 2
    outcome = spool.run()
    assert outcome.undone == 0
    assert {each["key"] for each in spool.digests} == keys, "what is sent again has the key it had"
    with spool.history() as history:
        assert len(history.rows()) == 1


def test_expired_waivers_fail_every_pass_and_are_told_once(place):
    (place / "w.yml").write_text(
        "waivers:\n- {rule: plaintext, match: {to: uaa}, reason: r, owner: o, ticket: T-9, expires: 2026-01-01}\n"
    )
    spool = Spool(place, '[audit]\nwaivers = ["w.yml"]\n' + NOTIFY)
    assert spool.run().status(False, False) == 1
    assert spool.run().status(False, False) == 1
    assert len(spool.digests) == 1
    assert "T-9" in spool.digests[0]["body"]
    (place / "w.yml").write_text("waivers: []\n")
    assert spool.run().status(False, False) == 0


def test_waived_findings_do_not_fail_a_pass_and_stay_in_the_store(place):
    each = "- {{rule: unknown-host, match: {{{end}: 10.0.4.20}}, reason: r, owner: o, ticket: t, expires: 2999-01-01, max_findings: 99}}\n"
    (place / "w.yml").write_text("waivers:\n" + each.format(end="from") + each.format(end="to"))
    (place / "who.yml").write_text(without("diego_cell/0"))
    spool = Spool(place, '[audit]\nwaivers = ["w.yml"]\n' + NOTIFY, place / "who.yml")
    spool.put("1.pcap", SAMPLE.read_bytes())
    outcome = spool.run()
    with spool.history() as history:
        rows = history.table("findings", 1, ["rule", "severity", "waived"]).to_pylist()
    document = [row for row in rows if row["waived"]]
    assert {row["rule"] for row in document} == {"unknown-host"}
    assert all(row["waived"] for row in rows if row["rule"] == "unknown-host")
    assert not any("unknown-host" in told["body"] for told in spool.digests)
    assert outcome.new == sum(not row["waived"] and row["severity"] != "info" for row in rows)


STRANGER = "- {rule: unknown-host, match: {to: router}, reason: r, owner: o, ticket: T-1, expires: 2999-01-01%s}\n"


def talk(at_ns, host="10.0.4.201"):
    """A capture in which this host talks to a router, which no documented path tells of."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.l2 import Ether
    from scapy.utils import PcapWriter

    out = io.BytesIO()
    writer = PcapWriter(out)
    flags = (("S", 0), ("SA", 1), ("A", 0), ("FA", 0), ("FA", 1), ("A", 0))
    count = {0: 1_000, 1: 5_000}
    for number, (flag, side) in enumerate(flags):
        ends = (host, "10.0.4.90") if not side else ("10.0.4.90", host)
        ports = (40_000, 9_999) if not side else (9_999, 40_000)
        packet = Ether() / IP(src=ends[0], dst=ends[1]) / TCP(sport=ports[0], dport=ports[1], flags=flag)
        packet[TCP].seq, packet[TCP].ack = count[side], count[1 - side] if "A" in flag else 0
        count[side] += "S" in flag or "F" in flag
        packet.time = at_ns // 10**9 + number / 10
        writer.write(packet)
    writer.flush()
    return out.getvalue()


def strangers(*hosts):
    """Captures of an hour each in which one of these talks to a router."""
    return [talk(NOW + HOUR * at, host) for at, host in enumerate(hosts)]


WHO = "schema: auditor.inventory/1\nnetworks: [10.0.4.0/24]\nvms:\n  - {name: router/0, ips: [10.0.4.90]}\n  - {name: diego_cell/0, ips: [10.0.4.20]}\n"


def test_a_waiver_does_not_hide_a_stranger_who_comes_in_a_later_pass(place):
    (place / "who.yml").write_text(WHO)
    (place / "w.yml").write_text("waivers:\n" + STRANGER % "")
    spool = Spool(place, '[audit]\nscope = "all"\nwaivers = ["w.yml"]\n' + NOTIFY, place / "who.yml")
    hours = strangers("10.0.4.201", "10.0.4.202", "10.0.4.201", "10.0.4.202")
    outcomes = []
    for hour, capture in enumerate(hours):
        spool.put(f"{hour}.pcap", capture)
        outcomes.append(spool.run())
        if hour == 0:
            assert spool.digests == []
    assert [outcome.new for outcome in outcomes] == [0, 1, 1, 0], (
        "the second, and the first, whom nobody answers for alone"
    )
    told = [each["body"] for each in spool.digests]
    assert "10.0.4.202" in told[0]
    assert "w.yml:2: waiver of unknown-host covers 2 findings (1 of them seen earlier)" in told[0], (
        "one event, one digest"
    )
    assert "Findings that are no longer waived: 1" in told[1]
    assert "10.0.4.201" in told[1]
    assert len(told) == 2
    with spool.history() as history:
        waived = [history.table("findings", audit, ["waived"])["waived"].to_pylist() for audit in (1, 2, 3, 4)]
    assert [[bool(each) for each in row] for row in waived] == [[True], [False], [False], [False]]


def test_a_finding_whose_waiver_was_taken_out_is_news(place):
    (place / "who.yml").write_text(WHO)
    (place / "w.yml").write_text("waivers:\n" + STRANGER % "")
    spool = Spool(place, '[audit]\nscope = "all"\nwaivers = ["w.yml"]\n' + NOTIFY, place / "who.yml")
    first, second, third = strangers(*["10.0.4.201"] * 3)
    spool.put("1.pcap", first)
    assert spool.run().status(False, False) == 0
    (place / "w.yml").write_text("waivers: []\n")
    spool.put("2.pcap", second)
    outcome = spool.run()
    assert (outcome.new, outcome.status(False, False)) == (1, 1)
    [told] = spool.digests
    assert "Findings that are no longer waived: 1" in told["body"]
    spool.put("3.pcap", third)
    assert spool.run().status(False, False) == 0
    assert len(spool.digests) == 1


def test_unused_waivers_are_listed_once(place):
    (place / "who.yml").write_text(WHO)
    (place / "w.yml").write_text("waivers:\n" + STRANGER % "" + (STRANGER % "").replace("router", "10.9.9.9"))
    spool = Spool(place, '[audit]\nscope = "all"\nwaivers = ["w.yml"]\n' + NOTIFY, place / "who.yml")
    for hour, capture in enumerate(strangers("10.0.4.201", "10.0.4.201")):
        spool.put(f"{hour}.pcap", capture)
        spool.run()
        told = [each["says"] for each in spool.said("waiver")]
        expected = [f"{place / 'w.yml'}:3: waiver of unknown-host matched nothing"] if hour == 0 else []
        assert told == expected
    assert spool.digests == []


def test_a_command_that_hangs_leaves_nothing_behind(place, monkeypatch):
    script = place / "vms.sh"
    script.write_text(f"#!/bin/sh\nsleep 3001 &\necho $! > {place}/child\nsleep 3002\n")
    script.chmod(0o755)
    spool = Spool(place)
    text = (place / "run.toml").read_text().split("[[inventory]]")[0]
    (place / "run.toml").write_text(f'{text}[[inventory]]\ncommand = ["{script}"]\ntimeout = "5s"\n')
    spool.put("1.pcap", SAMPLE.read_bytes())
    with pytest.raises(ConfigError, match=r"vms\.sh: took longer than 5 s"):
        spool.run()
    child = int((place / "child").read_text())
    stat = Path(f"/proc/{child}/stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"
    # One that prints for ever is ended, too, wherever it prints to.
    monkeypatch.setattr("auditor.jobs.scheduled_run.MAX_INVENTORY_BYTES", 1 << 20)
    for where in ("", " >&2"):
        script.write_text(f"#!/bin/sh\nyes{where}\n")
        with pytest.raises(ConfigError, match="printed more than"):
            _run_command([str(script)], 600)


def test_an_inventory_may_come_from_a_command_with_a_time_limit(place):
    script = place / "vms.py"
    script.write_text(f"import sys\nsys.stdout.write(open({str(INVENTORY)!r}).read())\n")
    spool = Spool(place)
    text = (place / "run.toml").read_text().split("[[inventory]]")[0]
    (place / "run.toml").write_text(
        f'{text}[[inventory]]\ncommand = ["{sys.executable}", "vms.py"]\ntimeout = "60s"\nstale = "3h"\n'.replace(
            '"vms.py"', f'"{script}"'
        )
    )
    first, second, third = split(SAMPLE, 3)
    spool.put("1.pcap", first)
    assert spool.run().files == 1
    with spool.history() as history:
        assert {each.kind for each in history.deciders(1)} == {"inventory", "policy"}
    # It fails: its last answer is good for a while.
    script.write_text("import sys\nsys.exit('no route to the Director')\n")
    spool.put("2.pcap", second)
    os.utime(next((place / "history" / "inventories").iterdir()), ns=(spool.now, spool.now))
    assert spool.run().files == 1
    [line] = spool.said("inventory")
    assert "exited with 1: no route to the Director; its last output is used" in line["says"]
    spool.put("3.pcap", third)
    spool.now += 5 * HOUR
    with pytest.raises(ConfigError, match="no route to the Director"):
        spool.run()
    script.write_text("import time\ntime.sleep(600)\n")
    (place / "run.toml").write_text((place / "run.toml").read_text().replace('"60s"', '"1s"'))
    with pytest.raises(ConfigError, match="took longer than 1 s"):
        spool.run()
    script.write_text("print('rubbish: [')\n")
    (place / "run.toml").write_text((place / "run.toml").read_text().replace('"1s"', '"60s"'))
    with pytest.raises(ConfigError, match="inventory 1"):
        spool.run()
    # Nothing was taken meanwhile, so nothing is lost.
    script.write_text(f"import sys\nsys.stdout.write(open({str(INVENTORY)!r}).read())\n")
    assert spool.run().files == 1


@pytest.mark.night
def test_many_files_are_many_audits_of_one_pass_and_workers_change_nothing(place):
    pieces = split(SAMPLE, 5)
    stores = []
    for name, more in (("one", "[limits]\nfiles = 2\n"), ("many", "[limits]\nfiles = 2\n[audit]\nworkers = 2\n")):
        (place / name).mkdir()
        spool = Spool(place / name, more)
        for k, piece in enumerate([*pieces, b"rubbish"]):
            spool.put(f"{k}.pcap", piece)
        outcome = spool.run()
        assert (len(outcome.audits), outcome.files, len(outcome.aside)) == (3, 5, 1)
        with spool.history() as history:
            rows = [
                history.table("connections", audit).drop_columns(["authentication_evidence"]).to_pylist()
                for audit in outcome.audits
            ]
            stores.append([[{**row, "vantages": None, "id": row["id"]} for row in table] for table in rows])
    assert stores[0] == stores[1]


def test_a_cluster_that_does_not_answer_is_told_and_the_pass_is_done_here(place, monkeypatch):
    from auditor.jobs import cluster

    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 0.5)
    spool = Spool(place, '[audit]\nscheduler = "tcp://127.0.0.1:1"\n')
    for k, piece in enumerate(split(SAMPLE, 2)):
        spool.put(f"{k}.pcap", piece)
    outcome = spool.run()
    assert (len(outcome.audits), outcome.files, len(outcome.aside)) == (1, 2, 0)
    assert any("no Dask scheduler answers within 0.5 s" in line for line in spool.lines)
    (place / "other").mkdir()
    with pytest.raises(ConfigError, match="leave workers out"):
        Spool(place / "other", '[audit]\nworkers = 2\nscheduler = "tcp://127.0.0.1:1"\n').run()


def test_a_file_that_kills_whoever_reads_it_is_set_aside_in_the_end(place, monkeypatch):
    """A worker that dies takes nobody with it; here it is killed from inside, as the kernel does when memory runs out."""
    from auditor.errors import InputError
    from auditor.jobs import scale
    from auditor.jobs import spool as spools

    spool = Spool(place)
    bad = spool.put("1.pcap", SAMPLE.read_bytes())
    spool.put("2.pcap", split(SAMPLE, 2)[0])
    with open_history(place / "history", write=True) as history:
        for _ in range(3):
            spools.begin_following(history, str(bad))
    asked = []

    def die(source, index, options):
        asked.append(source)
        raise InputError(source, "the process that read it died: killed, or out of memory")

    monkeypatch.setattr(scale, "follow_apart", die)
    outcome = spool.run()
    assert asked == [str(bad)]
    assert outcome.files == 1
    assert "the process that read it died" in outcome.aside[0]


def test_a_process_of_its_own_follows_as_this_one_does(place):
    from auditor.jobs.scale import follow_apart
    from auditor.pipeline import follow_one

    apart, here = follow_apart(str(SAMPLE), 3, {}), follow_one(str(SAMPLE), 3, {}, False)
    assert apart.capture == here.capture
    assert apart.part.rows.tobytes() == here.part.rows.tobytes()


def test_old_audits_go(place):
    spool = Spool(place, '[retention]\nage = "2h"\n')
    pieces = split(SAMPLE, 3)
    for k, piece in enumerate(pieces):
        spool.put(f"{k}.pcap", piece)
        spool.run()
    with spool.history() as history:
        assert [row.audit for row in history.rows()] == [3], "the captures are days old; the latest stays"


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), ValueError("odd"), ConfigError("store", "is read-only")]
)
def test_housekeeping_decides_nothing(place, monkeypatch, error):
    """What it cannot do is said and counted; who is to be told is told, and the exit status is the pass's own."""

    def fail(*_given, **_more):
        raise error

    for name in ("scrub", "mirror"):
        monkeypatch.setattr(f"auditor.store.health.{name}", fail)
    for name in ("tidy", "retain"):
        monkeypatch.setattr(f"auditor.store.history.History.{name}", fail)
    (place / "who.yml").write_text(WHO)
    spool = Spool(place, '[audit]\nscope = "all"\n' + NOTIFY, place / "who.yml")
    spool.put("0.pcap", talk(NOW))
    outcome = spool.run()
    assert outcome.status(False, True) == 1
    assert len(outcome.troubles) == len(spool.said("housekeeping")) == 3
    assert len(spool.digests) == 1
