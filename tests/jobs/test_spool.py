"""Which files of a spool are finished and new."""

from __future__ import annotations

import os
import time

import pytest

from auditor.errors import ConfigError
from auditor.jobs import spool
from auditor.jobs.config import SpoolSection
from auditor.store.history import open_history

NOW = 1_795_300_000_000_000_000
SECOND = 1_000_000_000


@pytest.fixture
def place(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path


def section(place, **more):
    return SpoolSection.model_validate({"folders": [str(place / "in")], "settle": "10s", **more})


def put(place, name, content=b"x", age_s=60):
    file = place / "in" / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    os.utime(file, ns=(NOW - age_s * SECOND, NOW - age_s * SECOND))
    return file


def names(place, **more):
    found, wrong = spool.look(section(place, **more), NOW)
    assert wrong == []
    return [each.path.rsplit("/", 1)[1] for each in found]


def test_only_what_is_finished_in_the_order_in_which_it_was(place):
    put(place, "b", age_s=90)
    put(place, "a", age_s=30)
    put(place, "growing", age_s=5)
    put(place, ".hidden")
    put(place, "c.part")
    put(place, "below/d")
    assert names(place) == ["b", "a"]
    assert names(place, recursive=True) == ["b", "d", "a"]
    assert names(place, patterns=["a*"]) == ["a"]


def test_a_file_that_somebody_writes_to_is_not_finished_however_quiet_it_is(place):
    file = put(place, "quiet", age_s=3_600)
    with file.open("ab"):
        assert names(place) == []
    with file.open("rb"):
        assert names(place) == ["quiet"]


def test_a_time_that_is_still_to_come_shuts_no_file_out(place):
    file = put(place, "early")
    os.utime(file, ns=(NOW + 10**18, NOW + 10**18))
    found, _ = spool.look(section(place), time.time_ns())
    assert found == []
    found, _ = spool.look(section(place), time.time_ns() + 60 * SECOND)
    assert len(found) == 1


def test_a_folder_that_is_missing_is_told_and_all_missing_is_an_error(place):
    _, wrong = spool.look(section(place, folders=[str(place / "in"), str(place / "gone")]), NOW)
    assert wrong == [f"{place / 'gone'}: no such folder"]
    with pytest.raises(ConfigError, match=r"spool\.folders: .*gone: no such folder"):
        spool.look(section(place, folders=[str(place / "gone")]), NOW)


def test_each_content_is_taken_once_whatever_it_is_named(place):
    put(place, "one", b"same")
    put(place, "two", b"same", age_s=50)
    put(place, "three", b"other", age_s=40)
    with open_history(place / "s", write=True) as history:
        found, _ = spool.look(section(place), NOW)
        ready, aside, again = spool.new_files(history, found, NOW)
        assert [each.found.path.rsplit("/", 1)[1] for each in ready] == ["one", "three"]
        assert (aside, [each.says for each in again]) == ([], [f"has the same content as {place / 'in' / 'one'}"])
        with history.writing():
            spool.note_taken(history, ready, 1, NOW)
        ready, aside, again = spool.new_files(history, found, NOW)
        assert (ready, aside) == ([], [])
        assert [each.says for each in again] == [f"has the same content as {place / 'in' / 'one'}, in audit 1"]
        put(place, "one", b"same", age_s=30)
        found, _ = spool.look(section(place), NOW)
        _, _, again = spool.new_files(history, found, NOW)
        assert "has the same content as before, in audit 1" in [each.says for each in again]
        (place / "in" / "one").rename(place / "in" / "renamed")
        put(place, "one", b"new content")
        found, _ = spool.look(section(place), NOW)
        ready, _, _ = spool.new_files(history, found, NOW)
        assert [each.found.path.rsplit("/", 1)[1] for each in ready] == ["one"]


def test_what_cannot_be_read_is_set_aside_until_it_changes(place):
    file = put(place, "locked")
    found, _ = spool.look(section(place), NOW)
    gone = [spool.Found(str(place / "in" / "vanished"), 1, NOW, 1), *found]
    with open_history(place / "s", write=True) as history:
        file.unlink()
        ready, aside, _ = spool.new_files(history, gone, NOW)
        assert ready == []
        assert all("cannot be read: No such file" in each.says for each in aside)
        with history.writing():
            spool.note_aside(history, aside, NOW)
        assert spool.new_files(history, gone, NOW) == ([], [], [])


def test_a_file_that_changes_while_it_is_read_is_left(place):
    file = put(place, "a", b"one")
    [before] = spool.look(section(place), NOW)[0]
    file.write_bytes(b"more than one")
    assert spool.content_of(before) is None


def test_passes_that_die_over_a_file_are_counted(place):
    with open_history(place / "s", write=True) as history:
        assert [spool.begin_following(history, "a") for _ in range(3)] == [0, 1, 2]
        spool.end_following(history, "a")
        assert spool.begin_following(history, "a") == 2


def test_batches_keep_the_order_and_the_limits():
    files = [spool.Ready(spool.Found(str(k), size, 0, k), str(k)) for k, size in enumerate((5, 5, 1, 100, 1))]
    found = [[each.content for each in batch] for batch in spool.batches(files, 2, 12)]
    assert found == [["0", "1"], ["2"], ["3"], ["4"]]


def test_files_that_are_long_gone_are_forgotten(place):
    put(place, "stays", b"1")
    put(place, "goes", b"2")
    with open_history(place / "s", write=True) as history:
        ready, _, _ = spool.new_files(history, spool.look(section(place), NOW)[0], NOW)
        with history.writing():
            spool.note_taken(history, ready, 1, NOW)
        (place / "in" / "goes").unlink()
        spool.forget_files(history, NOW + 1)
        left = [path.rsplit("/", 1)[1] for (path,) in history.sql.execute("SELECT path FROM taken")]
        assert left == ["stays"]


def test_a_file_that_grows_begins_with_what_was_taken(place):
    """However often, and under another name: what is counted is what came since."""
    file = put(place, "a", b"0123456789")
    with open_history(place / "s", write=True) as history:

        def new():
            found, _ = spool.look(section(place), NOW)
            ready, _, _ = spool.new_files(history, found, NOW)
            return ready

        [first] = new()
        with history.writing():
            spool.note_taken(history, [first], 1, NOW, {first.found.path: 4})
        file = put(place, "a", b"0123456789 and more")
        [second] = new()
        assert (first.skip, second.skip) == (0, 4)
        with history.writing():
            spool.note_taken(history, [second], 2, NOW, {second.found.path: 3})
        with file.open("ab") as out:
            out.write(b" and more still")
        file.rename(place / "in" / "b")
        put(place, "b", (place / "in" / "b").read_bytes())
        [third] = new()
        assert third.skip == 7
        put(place, "b", b"something else that is longer than all of it was before")
        [other] = new()
        assert other.skip == 0


def test_a_file_that_is_empty_is_set_aside_until_it_is_written_to(place):
    put(place, "nothing", b"")
    with open_history(place / "s", write=True) as history:
        found, _ = spool.look(section(place), NOW)
        ready, [aside], _ = spool.new_files(history, found, NOW)
        assert (ready, aside.says) == ([], "is empty")
        with history.writing():
            spool.note_aside(history, [aside], NOW)
        assert spool.new_files(history, found, NOW) == ([], [], [])
        put(place, "nothing", b"something")
        found, _ = spool.look(section(place), NOW)
        [each] = spool.new_files(history, found, NOW)[0]
        assert each.found.bytes == 9


def test_settle_holds_after_the_clock_was_set_back(place):
    """All dates of a file are to come then: it is finished once passes have seen it lie still for long enough."""
    file = put(place, "a", b"one")
    early = time.time_ns() - 40 * 86_400 * SECOND
    with open_history(place / "s", write=True) as history:

        def seen(after_s):
            return [each.bytes for each in spool.look(section(place), early + after_s * SECOND, history)[0]]

        assert seen(0) == []
        assert seen(9) == []
        assert seen(10) == [3]
        file.write_bytes(b"more")
        assert seen(12) == []
        assert seen(21) == []
        assert seen(22) == [4]
        assert seen(5) == [], "set back again"
        assert seen(15) == [4]
