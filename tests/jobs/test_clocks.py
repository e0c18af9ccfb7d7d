"""What time it is for a pass, whatever the clocks say."""

from __future__ import annotations

import pytest

from auditor.jobs import clocks
from auditor.jobs.digest import NotToldError
from auditor.store.history import open_history
from tests.jobs.test_scheduled_run import HOUR, NOTIFY, NOW, WHO, Spool, talk

DAY = 24 * HOUR
YEAR = 365 * DAY


@pytest.fixture
def clock(tmp_path):
    """Passes at these times of the machine's clock; the clock that is believed, and what is said."""
    with open_history(tmp_path / "s", write=True) as history:

        def at(wall, packets=None):
            time = clocks.judge(history, wall)
            clocks.note(history, time, packets)
            return time.now_ns, time.says

        yield at


def test_a_clock_that_goes_on_is_believed(clock):
    for at in (0, HOUR, HOUR, 3 * DAY, 9 * DAY, 9 * DAY - 300 * 10**9):
        assert clock(NOW + at)[1] is None
    assert clock(NOW + 9 * DAY)[0] == NOW + 9 * DAY


def test_a_jump_ahead_is_not_believed_and_time_goes_on_beside_it(clock):
    clock(NOW)
    now, says = clock(NOW + 2 * YEAR)
    assert now == NOW
    assert "730 days ahead of what follows from the last pass" in says
    assert clock(NOW + 2 * YEAR + HOUR)[0] == NOW + HOUR
    assert clock(NOW + 2 * HOUR) == (NOW + 2 * HOUR, None), "put right again"


def test_a_jump_back_is_not_believed_either(clock):
    clock(NOW)
    now, says = clock(NOW - 40 * DAY)
    assert now == NOW
    assert "40 days behind" in says
    assert clock(NOW - 40 * DAY + HOUR)[0] == NOW + HOUR
    assert clock(NOW + 3 * HOUR) == (NOW + 3 * HOUR, None)


def test_packets_tell_how_much_has_passed_while_the_clock_cannot(tmp_path):
    with open_history(tmp_path / "s", write=True) as history:
        clocks.note(history, clocks.judge(history, NOW), None)
        time = clocks.judge(history, NOW - 40 * DAY)
        assert NOW + 6 * HOUR < time.latest_ns < NOW + 2 * DAY
        clocks.note(history, time, NOW + 6 * HOUR)
        assert clocks.judge(history, NOW - 40 * DAY + HOUR).now_ns == NOW + 7 * HOUR
        clocks.note(history, clocks.judge(history, NOW - 40 * DAY + HOUR), NOW + 400 * DAY)
        assert clocks.judge(history, NOW - 40 * DAY + HOUR).now_ns == NOW + 7 * HOUR


def test_a_new_time_is_believed_once_it_has_run_for_a_day_and_packets_agree(clock):
    clock(NOW)
    there = NOW + YEAR
    for hour in range(24):
        assert clock(there + hour * HOUR, there + hour * HOUR - 600 * 10**9)[1] is not None
    assert clock(there + 24 * HOUR)[1] is None
    # Without packets nobody says so but the clock itself.
    there -= 300 * DAY
    for hour in range(60):
        assert clock(there + hour * HOUR, NOW if hour else None)[1] is not None


def test_a_clock_that_was_never_set_and_one_of_rare_passes(clock):
    assert "never set" in clock(5 * DAY)[1]
    for month in range(4):
        now = NOW + 6 * DAY * month
        assert clock(now) == (now, None)
    assert clock(now + 17 * DAY)[1] is None, "three times as long as passes are apart"


def put(spool, name, at=None, host="10.0.4.201"):
    return spool.put(name, talk(spool.now if at is None else at, host))


@pytest.fixture
def spool(tmp_path):
    (tmp_path / "who.yml").write_text(WHO)
    more = '[audit]\nscope = "all"\n[retention]\nage = "400d"\n'
    return Spool(tmp_path, more + NOTIFY, tmp_path / "who.yml")


def titles(spool, kind):
    return [each["title"] for told in spool.digests for each in told["changes"] if each["change"] == kind]


def test_a_clock_two_years_ahead_removes_nothing_and_is_told_once(spool):
    for hour in range(3):
        put(spool, f"{hour}.pcap")
        assert spool.run().status(False, False) in (0, 1, 3)
    outcome = spool.run(later=2 * YEAR)
    assert outcome.status(False, False) == 4
    [line] = spool.said("clock")
    assert "730 days ahead" in line["says"]
    assert spool.run().status(False, False) == 4
    with spool.history() as history:
        assert [row.audit for row in history.rows()] == [1, 2, 3]
        assert all(known.open for known in history.known().values())
    assert len(titles(spool, "clock")) == 1
    spool.now -= 2 * YEAR
    assert spool.run().status(False, False) == 0


def test_captures_of_a_clock_that_runs_ahead_close_nothing(spool):
    put(spool, "0.pcap")
    spool.run()
    before = len(spool.digests)
    later = put(spool, "1.pcap", spool.now + 400 * DAY, "10.0.4.202")
    put(spool, "2.pcap", host="10.0.4.203")
    outcome = spool.run()
    assert (outcome.new, outcome.status(False, False) & 4) == (1, 4)
    assert outcome.apart == [str(later)]
    [told] = spool.digests[before:]
    assert [each["title"] for each in told["changes"] if each["change"] == "new"] == [
        each["title"] for each in told["changes"] if "10.0.4.203" in each["title"]
    ]
    [says] = titles(spool, "clock")
    assert "400 days ahead of the clock; kept separately as audit" in says
    assert titles(spool, "gone") == []
    with spool.history() as history:
        kinds = {row.kind: row.audit for row in history.rows()}
        assert {len(known.open * "x") for known in history.known().values()} == {1}
        assert len(history.known()) == 2, "what is ahead is not part of the history"
        assert history.table("findings", kinds["apart"]).num_rows == 1
    # The same an hour later is nothing new, and does not wait for 400 days.
    put(spool, "3.pcap")
    outcome = spool.run()
    assert (outcome.new, outcome.status(False, False)) == (0, 0)


def test_what_waits_is_not_put_off_by_a_clock_that_was_wrong(spool):
    put(spool, "0.pcap")

    def fail(_section, _digest):
        raise NotToldError("notify team: no route")

    spool.now += 40 * DAY
    spool.run(fail)
    spool.now -= 40 * DAY
    spool.run()
    outcome = spool.run(later=60 * 10**9)
    assert outcome.undone == 0
    assert {each["change"] for told in spool.digests for each in told["changes"]} >= {"new", "clock"}
