"""Many processes give the report of one, and leave nothing behind, however they end."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from auditor import api
from auditor.errors import ConfigError, InputError, NotACaptureError
from auditor.jobs.scale import can_be_handed_on
from tests.conftest import ROOT
from tests.netns import until

HEALTHY = ROOT / "captures" / "sample" / "healthy.pcap"
SECONDS = 60.0


def cut(capture: Path, folder: Path, parts: int) -> list[Path]:
    """A pcap as several files, one after the other."""
    data = capture.read_bytes()
    order = "<" if data[0] in {0xD4, 0x4D} else ">"
    records, at = [], 24
    while at < len(data):
        size = 16 + struct.unpack_from(order + "I", data, at + 8)[0]
        records.append(data[at : at + size])
        at += size
    each = -(-len(records) // parts)
    made = []
    for k in range(parts):
        made.append(folder / f"part{k}.pcap")
        made[-1].write_bytes(data[:24] + b"".join(records[k * each : (k + 1) * each]))
    return made


def lasting(report: api.Report) -> str:
    """The JSON report without what is another in every run."""
    told = json.loads(report.to_json())
    for name in ("id", "started", "finished"):
        del told["audit"][name]
    return json.dumps(told)


def test_a_cut_capture_gives_the_same_report_with_one_process_with_two_and_whole(tmp_path: Path) -> None:
    parts = [str(each) for each in cut(HEALTHY, tmp_path, 3)]
    inventory = str(HEALTHY.with_name("healthy.inventory.yml"))
    one = api.audit(parts, inventory=inventory)
    said: list[Any] = []
    two = api.audit(parts, inventory=inventory, workers=2, progress=said.append)
    assert len(one.connections) > 20
    assert lasting(two) == lasting(one)
    assert two.to_csv() == one.to_csv()
    assert [bool(each.doing) for each in said] == [False, False, False, True]
    assert said[-1].doing == f"judging {len(one.connections):,} connections"
    assert [each.packets for each in said] == sorted(each.packets for each in said)
    assert said[-1].packets == one.captures["packets"].sum()
    assert said[-1].bytes == said[-1].total_bytes == sum(Path(each).stat().st_size for each in parts)
    whole = api.audit(str(HEALTHY), inventory=inventory)
    assert one.connections["id"].tolist() == whole.connections["id"].tolist()
    assert one.connections["history"].tolist() == whole.connections["history"].tolist()


def test_samples_give_the_same_report_with_one_process_and_with_many() -> None:
    samples = ["sample:diego", "sample:healthy"]
    one, many = api.audit(samples), api.audit(samples, workers=5)
    assert len(one.findings) > 5
    assert lasting(many) == lasting(one)


def test_streams_and_broken_captures_stand_among_the_others(tmp_path: Path) -> None:
    first, second, third = cut(HEALTHY, tmp_path, 3)
    (tmp_path / "text.pcap").write_text("this is not a capture\n")
    second.write_bytes(second.read_bytes()[:-5])

    def sources() -> list[Any]:
        return [str(first), io.BytesIO(second.read_bytes()), str(tmp_path / "text.pcap"), str(third)]

    one, two = api.connections(sources()), api.connections(sources(), workers=2)
    assert lasting(two) == lasting(one)
    assert [len(each) for each in two.captures["problems"]] == [0, 1, 1, 0]


def test_nothing_to_audit_is_one_error(tmp_path: Path) -> None:
    names = [tmp_path / "a.pcap", tmp_path / "b.pcap"]
    for each in names:
        each.write_text("this is not a capture\n")
    with pytest.raises(InputError, match=r"a\.pcap: "):
        api.audit([str(each) for each in names], workers=2)
    with pytest.raises(ConfigError, match="--workers"):
        api.audit([str(HEALTHY)], workers=0)


def test_only_what_others_can_open_is_handed_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    given = [str(HEALTHY), "s3://bucket/a.pcap", "-", "/dev/stdin", str(tmp_path / "pipe"), str(tmp_path), io.BytesIO()]
    assert [can_be_handed_on(each) for each in given] == [True, True, False, False, False, False, False]


@pytest.mark.parametrize(
    "error",
    [InputError("a", "says", 3), NotACaptureError("a", "says"), ConfigError("a", "says", 3, "hint")],
)
def test_errors_cross_processes(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


@contextlib.contextmanager
def first_child_killed() -> Iterator[None]:
    """Kills the first process that is started meanwhile."""
    before, over = set(multiprocessing.active_children()), threading.Event()

    def watch() -> None:
        while not over.is_set():
            for child in set(multiprocessing.active_children()) - before:
                child.kill()
                return
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def test_a_worker_that_dies_is_an_error_and_no_hang() -> None:
    began = time.monotonic()
    with first_child_killed(), pytest.raises(InputError, match="a worker process died"):
        api.audit(["sample:diego", "sample:healthy"], workers=2)
    assert time.monotonic() - began < SECONDS
    assert multiprocessing.active_children() == []


def test_an_error_while_telling_progress_leaves_no_worker() -> None:
    def interrupts(progress: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.audit(["sample:diego", "sample:healthy"], workers=2, progress=interrupts)
    assert multiprocessing.active_children() == []


def children_of(pid: int) -> Sequence[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def runs(pid: int) -> bool:
    """Whether a process does anything still; in a container nobody may fetch what is left of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("everyone", [True, False], ids=["interrupted", "parent killed"])
def test_the_end_of_the_command_is_the_end_of_its_workers(everyone: bool, tmp_path: Path) -> None:
    sample = ROOT / "captures" / "sample" / "diego.pcapng"
    for k in range(60):  # more than can be followed before the command is ended
        shutil.copy(sample, tmp_path / f"{k}.pcapng")
    command = [sys.executable, "-m", "auditor", "audit", str(tmp_path), "--workers", "2"]
    started = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        # The resource tracker of multiprocessing and two workers, which have to import all before they read a byte.
        until(lambda: len(children_of(started.pid)) >= 3, "the workers", started)
        children = children_of(started.pid)
        if everyone:
            os.killpg(started.pid, signal.SIGINT)
        else:
            started.kill()
        said = started.communicate(timeout=SECONDS)[1].decode()
        until(lambda: not any(map(runs, children)), "the end of the workers")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
    assert started.returncode == (130 if everyone else -signal.SIGKILL)
    # What a worker that had just begun says when its parent is killed by force is Python's own word, not ours.
    assert not everyone or "Traceback" not in said
