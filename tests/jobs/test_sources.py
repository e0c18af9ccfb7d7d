"""Each source of captures by itself: whether it delivers, and whether what it delivers is whole."""

from __future__ import annotations

import pytest

from auditor.jobs.config import SourceSection
from auditor.jobs.exit_criteria import Loss
from auditor.jobs.sources import Sources, pattern_of, source_of
from auditor.store.history import open_history
from tests.jobs.crashing import INVENTORY, SAMPLE, split
from tests.jobs.test_clocks import DAY, titles
from tests.jobs.test_scheduled_run import HOUR, NOTIFY, NOW, WHO, Spool, talk

UNDECIDED = Loss(None, "undecided", "undecided: 40 %")


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (("cell-3_20261130T110005Z.pcap", "cell-3_20261201T000000Z.pcap.gz"), "cell-3_#.pcap"),
        (("brain.2026-11-30_11-00-05.pcapng",), "brain.#.pcapng"),
        (("diego_cell-4f2a.pcap1", "diego_cell-4f2a.pcap12"), "diego_cell-4f2a.pcap"),
        (("17.pcap", "3.pcap"), "#.pcap"),
        (("trace_00001_20261130110005.pcap",), "trace_#.pcap"),
        (("latest.pcap",), "latest.pcap"),
    ],
)
def test_names_of_one_source_have_one_pattern(names, pattern):
    assert {pattern_of(name).replace(".pcap.gz", ".pcap") for name in names} == {pattern}


def test_a_declared_source_goes_before_the_pattern_of_a_name():
    declared = [SourceSection(name="cells", match=["cell-*"]), SourceSection(name="north", match=["/n/*"])]
    assert source_of("/in/cell-3_20261130.pcap", declared) == "cells"
    assert source_of("/n/x.pcap", declared) == "north"
    assert source_of("/in/x.pcap", declared, folders=2) == "/in/x.pcap"


@pytest.fixture
def sources(tmp_path):
    with open_history(tmp_path / "s", write=True) as history:

        def begin(*declared):
            return Sources(history, declared, 1)

        yield begin


def test_two_that_take_turns_are_no_news_at_each_turn(sources):
    known, told = sources(), []
    for hour in range(48):
        name, lost = ("a.pcap", [UNDECIDED]) if hour % 2 else ("b.pcap", [])
        fresh, whole = known.audited([name], lost, NOW + hour * HOUR)
        told += fresh
        assert whole == []
    assert told == ["undecided: 40 %"]


def test_incompleteness_is_over_after_a_day_and_some_whole_audits(sources):
    known = sources()
    damage = Loss("x_0001.pcap", "damaged: truncated", "damaged: x_0001.pcap: truncated: cut off")
    assert known.audited(["x_0001.pcap"], [damage], NOW)[0] == [damage.says]
    again = Loss("x_0009.pcap", "damaged: truncated", "damaged: x_0009.pcap: truncated: cut off")
    for hour in range(1, 24):
        assert known.audited([f"x_{hour:04d}.pcap"], [again] if hour == 9 else [], NOW + hour * HOUR) == ([], [])
    assert known.audited(["x_0024.pcap"], [], NOW + 33 * HOUR) == ([], ["x_#.pcap: damaged: truncated"])
    assert known.audited(["x_0001.pcap"], [damage], NOW + 40 * HOUR)[0] == [damage.says]


def arrive(known, hours, name="a.pcap"):
    """Files of one source at these hours, looked for each hour; when it was told to be silent."""
    told = []
    for hour in range(max(hours) + 1):
        if hour in hours:
            known.delivered([name], NOW + hour * HOUR)
        told += [(hour, each) for each, _ in known.silent(NOW + hour * HOUR)]
    return told


def test_a_source_that_stops_is_told_once_by_its_own_rhythm(sources):
    hourly, daily = sources(), sources()
    assert arrive(hourly, [*range(10), 20, *range(21, 30), 60]) == [(13, "a.pcap"), (33, "a.pcap")]
    assert arrive(daily, [*range(0, 24 * 8, 24), 24 * 14]) == [(24 * 7 + 73, "a.pcap")]


def test_weekends_are_a_rhythm_in_the_end(sources):
    week = [day * 24 + hour for day in range(7 * 6) if day % 7 < 5 for hour in range(24)]
    told = arrive(sources(), week)
    assert len(told) == 2


def test_what_was_declared_is_waited_for_from_the_first_pass_on(sources):
    known = sources(SourceSection(name="north", match=["n*"], every="1h"))
    known.begin(NOW)
    assert known.silent(NOW + 2 * HOUR) == []
    assert known.silent(NOW + 2 * HOUR + 1) == [("north", 2 * HOUR + 1)]
    assert known.silent(NOW + 9 * HOUR) == []
    assert known.delivered(["n1.pcap"], NOW + 10 * HOUR) == ["north"]


def test_what_is_known_of_sources_is_kept(sources):
    known = sources()
    arrive(known, range(5))
    known.audited(["a.pcap"], [UNDECIDED], NOW)
    known.save()
    assert list(sources().items()) == list(known.items())


def test_a_silent_source_is_news_once(tmp_path):
    (tmp_path / "who.yml").write_text(WHO)
    spool = Spool(tmp_path, '[audit]\nscope = "all"\n' + NOTIFY, tmp_path / "who.yml")
    for hour in range(6):
        spool.put(f"north_{hour:05d}.pcap", talk(spool.now, "10.0.4.201"))
        if hour < 4:
            spool.put(f"south_{hour:05d}.pcap", talk(spool.now + 10**9, "10.0.4.202"))
        spool.run()
    for hour in range(6, 9):
        spool.put(f"north_{hour:05d}.pcap", talk(spool.now, "10.0.4.201"))
        spool.run()
    assert titles(spool, "silent") == ["south_#.pcap: nothing for 4 hours"]
    spool.put("south_00009.pcap", talk(spool.now, "10.0.4.202"))
    spool.run()
    assert [each["says"] for each in spool.said("source")] == ["south_#.pcap delivers again"]


def test_files_that_grow_in_bursts_are_counted_once(tmp_path):
    spool = Spool(tmp_path)
    whole = SAMPLE.read_bytes()
    cuts = [len(whole) // 3, len(whole) // 3 + 7, len(whole) * 2 // 3, len(whole)]
    for cut in cuts:
        spool.put("a.pcap", whole[:cut])
        assert spool.run().files == 1
    other = tmp_path / "other"
    other.mkdir()
    alone = Spool(other)
    alone.put("a.pcap", whole)
    alone.run()
    told = []
    for each in (spool, alone):
        with each.history() as history:
            packets: dict[str, int] = {}
            for row in history.rows():
                columns = ["id", "originator_packets", "responder_packets"]
                for line in history.table("connections", row.audit, columns).to_pylist():
                    packets[line["id"]] = packets.get(line["id"], 0) + sum(line[name] for name in columns[1:])
            told.append((sum(row.counts["packets"] for row in history.rows()), packets))
    assert told[0] == told[1]


def test_known_content_and_empty_files_leave_the_spool_and_are_told(tmp_path):
    spool = Spool(tmp_path, NOTIFY, INVENTORY, spool='after = "move"\ndone = "done"\n')
    first, second = split(SAMPLE, 2)
    spool.put("a.pcap", first)
    spool.run()
    spool.put("b.pcap", first)
    spool.put("c.pcap", b"")
    spool.put("d.pcap", second)
    outcome = spool.run()
    assert (outcome.files, outcome.known, len(outcome.aside)) == (1, 1, 1)
    assert list((tmp_path / "in").iterdir()) == []
    assert sorted(each.name for each in (tmp_path / "done").iterdir()) == [
        "a.pcap",
        "b.pcap",
        "c.pcap",
        "c.pcap.reason",
        "d.pcap",
    ]
    [line] = spool.said("known")
    assert (
        line["says"]
        == f"{tmp_path}/in/b.pcap: has the same content as {tmp_path}/in/a.pcap, in audit 1; not counted again"
    )
    assert titles(spool, "aside") == ["c.pcap: is empty"]
    assert spool.run().known == 0


def test_a_finding_that_comes_back_every_24_hours_and_two_minutes_is_one_story(tmp_path):
    (tmp_path / "who.yml").write_text(WHO)
    spool = Spool(tmp_path, '[audit]\nscope = "all"\n' + NOTIFY, tmp_path / "who.yml")
    for day in range(5):
        spool.now = NOW + day * (DAY + 2 * HOUR // 60)
        spool.put(f"{day}.pcap", talk(spool.now, "10.0.4.201"))
        spool.run(later=HOUR)
        spool.put(f"{day}-later.pcap", talk(spool.now + 22 * HOUR, "10.0.4.202"))
        spool.run(later=22 * HOUR)
    assert len(titles(spool, "new")) == 2
    assert titles(spool, "gone") == []


def test_a_waiver_that_expires_is_one_digest(tmp_path):
    (tmp_path / "who.yml").write_text(WHO)
    day = "2026-11-23"
    (tmp_path / "w.yml").write_text(
        f"waivers:\n- {{rule: unknown-host, match: {{to: router}}, reason: r, owner: o, ticket: T-1, expires: {day}}}\n"
    )
    spool = Spool(tmp_path, '[audit]\nscope = "all"\nwaivers = ["w.yml"]\n' + NOTIFY, tmp_path / "who.yml")
    for hour in range(30):
        if hour % 4 == 0:
            spool.put(f"{hour}.pcap", talk(spool.now, "10.0.4.201"))
        spool.run()
    [told] = spool.digests
    assert [each["change"] for each in told["changes"]] == ["waiver", "unwaived"]
    assert "T-1" in told["body"]
