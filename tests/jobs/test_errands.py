"""What is to be delivered stays until it is."""

from __future__ import annotations

import itertools
import os
import time

import pytest

from auditor.errors import ConfigError
from auditor.jobs import errands
from auditor.jobs.digest import NotToldError
from auditor.store.history import open_history
from tests.jobs.crashing import SAMPLE
from tests.jobs.test_clocks import DAY
from tests.jobs.test_scheduled_run import HOUR, NOTIFY, WHO, Spool, talk

MINUTE = HOUR // 60


def down(_section, _digest):
    raise NotToldError("notify team: the receiver refused it")


@pytest.fixture
def spool(tmp_path):
    (tmp_path / "who.yml").write_text(WHO)
    return Spool(tmp_path, '[audit]\nscope = "all"\n' + NOTIFY, tmp_path / "who.yml")


def test_a_target_that_is_down_for_a_week_is_told_all_of_it_in_one_digest(spool):
    tried = []

    def fail(_section, digest):
        tried.append((spool.now, digest["key"]))
        down(None, None)

    hosts = ["10.0.4.201", "10.0.4.202", "10.0.4.203"]
    for number, host in enumerate(hosts):
        spool.put(f"{number}.pcap", talk(spool.now, host))
        assert spool.run(fail, later=5 * MINUTE).status(False, False) & 8
    for _ in range(40):
        outcome = spool.run(fail, later=30 * MINUTE)
        assert (outcome.status(False, False), outcome.undone) == (8, 1)
    pauses = [after - before for (before, _), (after, _) in itertools.pairwise(tried)]
    assert max(pauses) <= HOUR
    assert len(tried) < 40, "not at each pass"
    spool.run(fail, later=7 * DAY)
    assert spool.run(later=HOUR).status(False, False) == 0
    [told] = spool.digests
    assert sorted(each["title"].split(",")[0] for each in told["changes"] if each["change"] == "new") == hosts
    assert "Delivery is late: the oldest item is from 2026-11-23T" in told["body"]
    assert told["title"].startswith("[auditor] Diego flow audit: 3 new")
    assert spool.run().undone == 0


def test_what_may_have_been_sent_is_sent_again_as_it_was(spool):
    spool.put("0.pcap", talk(spool.now))
    keys = []

    def die(_section, digest):
        keys.append(digest["key"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spool.run(die)
    spool.put("1.pcap", talk(spool.now, "10.0.4.202"))
    spool.run()
    assert [each["key"] for each in spool.digests][:1] == keys
    assert len(spool.digests) == 2, "what came since is told for itself"


def test_what_waits_is_shown_and_a_person_may_withdraw_it(spool):
    spool.put("0.pcap", talk(spool.now))
    spool.run(down)
    with open_history(spool.folder / "history", write=True) as history:
        [each] = errands.waiting(history)
        assert (each.kind, each.name, each.tries) == ("notify", "team", 1)
        for wrong in ("x", "-1", str(each.errand + 1)):
            with pytest.raises(ConfigError):
                errands.withdraw(history, wrong)
        assert errands.withdraw(history, str(each.errand)) == 1
        assert errands.withdraw(history, "all") == 0
    assert spool.run().status(False, False) == 0
    assert spool.digests == []


def test_reports_and_moves_wait_as_long_as_they_must_and_leave_nothing_behind(tmp_path):
    more = '[[report]]\nformat = "json"\noutput = "out/{audit}.json"\n'
    spool = Spool(tmp_path, more, spool='after = "move"\ndone = "done"\n')
    for name in ("out", "done"):
        (tmp_path / name).write_text("in the way")
    file = spool.put("1.pcap", SAMPLE.read_bytes())
    for _ in range(12):
        outcome = spool.run()
        assert (outcome.undone, outcome.status(False, True) & 8) == (2, 8)
    assert file.exists()
    for name in ("out", "done"):
        (tmp_path / name).unlink()
        (tmp_path / name).mkdir()
    old, young = (tmp_path / "out" / f".1.json.77-{k}.part" for k in ("abcdef", "fedcba"))
    for part in (old, tmp_path / "done" / ".auditor-x", young, tmp_path / "out" / ".mine.part"):
        part.write_text("half")
        if part != young:
            os.utime(part, (time.time() - 7_200,) * 2)
    assert spool.run().undone == 0
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == [young.name, ".mine.part", "1.json"]
    assert [each.name for each in (tmp_path / "done").iterdir()] == ["1.pcap"]


def test_a_file_that_cannot_be_looked_at_is_not_taken_for_moved(tmp_path, monkeypatch):
    spool = Spool(tmp_path, spool='after = "delete"\n')
    file = spool.put("1.pcap", SAMPLE.read_bytes())
    real = errands.spool.content_of
    monkeypatch.setattr(
        errands.spool, "content_of", lambda _found: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    assert spool.run().undone == 1
    monkeypatch.setattr(errands.spool, "content_of", real)
    assert spool.run().undone == 0
    assert not file.exists()
