"""Captures that are still being written: whoever writes them, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from auditor import api
from auditor.capture import open_capture
from auditor.capture.growing import Growth
from auditor.cli import main
from auditor.errors import ConfigError, InputError
from auditor.model.frames import Capture
from tests.capture.make import Blocks, pcap
from tests.conftest import ROOT

HEAD = pcap()
PACKETS = [pcap([(10 + k, 0, bytes([k]) * 60)])[len(HEAD) :] for k in range(6)]


def follow(
    path: Path | str, steps: dict[int, Callable[[], None]], *, idle: float = 0, stop_after: int | None = None
) -> tuple[int, Capture]:
    """Read a growing capture; ``steps`` are done once so many frames were seen, and ``stop_after`` ends the reading there.

    Nothing here waits for a time: the writer acts when the reader has come so far and asks whether to go on.
    """
    seen = 0

    def stopped() -> bool:
        # A reader that waits asks this again and again.
        step = steps.pop(seen, None)
        if step is not None:
            step()
        return stop_after is not None and seen >= stop_after

    with open_capture(path, growth=Growth(stopped, idle)) as reader:
        for batch in reader.batches():
            seen += len(batch)
        return seen, reader.summary()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "growing.pcap"
    # Enough to tell the format: what is looked at first is 512 bytes.
    path.write_bytes(HEAD + b"".join(PACKETS[:3]) * 3)
    return path


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as out:
        out.write(data)


def test_what_is_appended_is_read_until_the_caller_has_enough(file: Path) -> None:
    steps = {9: lambda: append(file, PACKETS[3]), 10: lambda: append(file, PACKETS[4] + PACKETS[5])}
    seen, capture = follow(file, steps, stop_after=12)
    assert seen == capture.packets == 12
    assert capture.problems == ()
    assert capture.last_ns == 15 * 10**9
    assert steps == {}


def test_a_packet_that_comes_in_halves_is_waited_for(file: Path) -> None:
    steps: dict[int, Callable[[], None]] = {}

    def half() -> None:
        append(file, PACKETS[3][:30])
        steps[9] = lambda: append(file, PACKETS[3][30:])

    steps[9] = half
    assert follow(file, steps, stop_after=10)[0] == 10


def test_what_its_writer_has_not_finished_is_no_damage_when_the_caller_ends_it(file: Path) -> None:
    append(file, PACKETS[3][:25])
    seen, capture = follow(file, {}, stop_after=9)
    assert (seen, capture.problems) == (9, ())


def test_what_lies_behind_where_the_caller_ended_is_told(tmp_path: Path) -> None:
    path = tmp_path / "large.pcap"
    path.write_bytes(HEAD + b"".join(PACKETS) * 20_000)
    seen, capture = follow(path, {}, stop_after=1)
    assert 0 < seen < 120_000
    [problem] = capture.problems
    assert problem.kind == "truncated"
    assert "reading was ended before the end" in problem.says and "bytes at the end were not read" in problem.says


@pytest.mark.parametrize("how", ["renamed", "removed", "replaced", "cut"])
def test_a_rotated_file_is_read_to_its_end_and_no_further(file: Path, how: str) -> None:
    def rotate() -> None:
        append(file, PACKETS[3])
        if how == "renamed":
            file.rename(file.with_suffix(".1"))
        elif how == "removed":
            file.unlink()
        elif how == "replaced":
            other = file.with_suffix(".new")
            other.write_bytes(HEAD + b"".join(PACKETS))
            other.rename(file)
        else:
            os.truncate(file, 24)

    seen, capture = follow(file, {9: rotate})
    assert seen == (9 if how == "cut" else 10)
    assert capture.problems == ()


def test_a_file_rotated_inside_a_packet_is_damaged(file: Path) -> None:
    append(file, PACKETS[3][:25])
    _, capture = follow(file, {9: file.unlink})
    assert [each.kind for each in capture.problems] == ["truncated"]


def test_an_idle_file_ends_after_the_time_allowed(file: Path) -> None:
    steps = {9: lambda: append(file, PACKETS[3])}
    seen, capture = follow(file, steps, idle=1.0)
    assert (seen, capture.problems) == (10, ())
    append(file, PACKETS[4][:20])
    assert [each.kind for each in follow(file, {}, idle=0.2)[1].problems] == ["truncated"]


def test_pcapng_and_compressed_captures_grow_too(tmp_path: Path) -> None:
    ng = tmp_path / "a.pcapng"
    blocks = Blocks().section().interface(name="eth0")
    for k in range(9):
        blocks.enhanced(k, bytes(60))
    ng.write_bytes(blocks.bytes)
    more = Blocks().interface(name="eth1").enhanced(20, b"late" * 9, 1).bytes
    seen, capture = follow(ng, {9: lambda: append(ng, more)}, stop_after=10)
    assert (seen, [each.interface for each in capture.vantage_points]) == (10, ["eth0", "eth1"])
    packed = tmp_path / "a.zst"
    packed.write_bytes(zstandard.compress(HEAD + b"".join(PACKETS) * 2))
    seen, capture = follow(packed, {}, idle=0.2)
    assert (seen, capture.problems) == (12, ())


def test_a_pipe_is_followed_until_its_writer_closes_it() -> None:
    reading, writing = os.pipe()
    os.write(writing, HEAD + b"".join(PACKETS) * 2)

    def close() -> None:
        os.write(writing, PACKETS[0])
        os.close(writing)

    with os.fdopen(reading, "rb") as pipe:
        seen, capture = follow(pipe, {12: close})  # type: ignore[arg-type]
    assert (seen, capture.problems) == (13, ())


def test_a_pipe_that_is_silent_lets_the_caller_end() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, HEAD + b"".join(PACKETS) * 2)
        with os.fdopen(reading, "rb") as pipe:
            seen, capture = follow(pipe, {}, stop_after=12)  # type: ignore[arg-type]
        assert (seen, capture.problems) == (12, ())
    finally:
        os.close(writing)


def test_what_cannot_be_waited_for_is_refused(tmp_path: Path) -> None:
    import io

    with pytest.raises(InputError, match="cannot be followed: neither a file nor a pipe"):
        open_capture(io.BytesIO(HEAD), growth=Growth(lambda: True))
    for captures in (["a.pcap", "b.pcap"], [str(tmp_path)], ["sample:diego"]):
        with pytest.raises(ConfigError, match="--follow: follows one capture"):
            api.audit(captures, follow=lambda: True)


# From the command line


@pytest.fixture
def growing_sample(tmp_path: Path) -> Iterator[Path]:
    """The sample, of which a part is there."""
    path = tmp_path / "sample.pcap"
    whole = (ROOT / "captures" / "sample" / "healthy.pcap").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    yield path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_the_reading_and_gives_the_report(
    growing_sample: Path, tmp_path: Path, number: int
) -> None:
    whole = (ROOT / "captures" / "sample" / "healthy.pcap").read_bytes()
    command = [
        sys.executable, "-c",
        "import sys, auditor.capture.growing as g, auditor.cli\n"
        "look = g.GrowingSource._rotated\n"
        "def told(self):\n"
        "    if self.read_bytes >= int(sys.argv[1]) and not hasattr(self, 'said'):\n"
        "        self.said = print('read', flush=True)\n"
        "    return look(self)\n"
        "g.GrowingSource._rotated = told\n"
        "sys.exit(auditor.cli.main(sys.argv[2:]))",
        str(len(whole)), "connections", str(growing_sample), "--follow", "--format", "json", "--output", str(tmp_path / "out.json"), "--quiet",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        watch = threading.Timer(240, running.kill)
        watch.start()
        try:
            append(growing_sample, whole[len(whole) // 2 :])
            assert running.stdout is not None
            assert running.stdout.readline() == "read\n", running.stderr.read() if running.stderr else ""
            running.send_signal(number)
            _, errors = running.communicate()
        finally:
            watch.cancel()
    assert (running.returncode, errors) == (0, "")
    told = json.loads((tmp_path / "out.json").read_text())
    expected = api.connections(str(ROOT / "captures" / "sample" / "healthy.pcap"))
    rows = told if isinstance(told, list) else told["connections"]
    assert [row["id"] for row in rows] == expected.connections["id"].tolist()


def test_an_idle_limit_from_the_command_line(growing_sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(
        [
            "audit",
            str(growing_sample),
            "--follow",
            "--limit",
            "follow_idle_seconds=1",
            "--fail-on",
            "never",
            "--format",
            "json",
        ]
    )
    report = json.loads(capsys.readouterr().out)
    assert report["audit"]["options"]["follow"] is True
    assert report["audit"]["options"]["limits"] == {"follow_idle_seconds": 1}
    [problem] = report["captures"][0]["problems"]
    assert (status, problem["kind"]) == (3, "truncated"), "half a packet stands at its end"


def test_several_captures_cannot_be_followed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "a.pcap", "b.pcap", "--follow"]) == 2
    assert "auditor: --follow: follows one capture (name one file, or - for standard input)" in capsys.readouterr().err
