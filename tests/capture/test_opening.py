"""From what a user names to frames: files, folders, globs, pipes, URLs, and what is none of them."""

from __future__ import annotations

import gzip
import io
import itertools
import lzma
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lz4.frame
import pytest
import zstandard

from auditor.capture import expand, open_capture
from auditor.capture.opening import looks_like_capture
from auditor.errors import InputError, MissingToolError, NotACaptureError
from auditor.model.limits import Limits
from tests.capture.make import Blocks, Trickle, pcap, read

PCAP = pcap([(1, 0, b"one"), (2, 0, b"two")])
PCAPNG = Blocks().section().interface().enhanced(1, b"one").enhanced(2, b"two").bytes


@pytest.mark.parametrize(("data", "form"), [(PCAP, "pcap"), (PCAPNG, "pcapng")])
@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("gzip", gzip.compress),
        ("xz", lzma.compress),
        ("zstd", zstandard.ZstdCompressor().compress),
        ("lz4", lz4.frame.compress),
    ],
)
def test_format_and_compression_are_found_by_content(
    tmp_path: Path, data: bytes, form: str, name: str, compress: Any
) -> None:
    path = tmp_path / "misleading.txt"
    path.write_bytes(compress(data))
    frames, summary = read(path)
    assert [f.data for f in frames] == [b"one", b"two"]
    assert (summary.path, summary.format, summary.problems) == (str(path), f"{form}+{name}", ())
    assert summary.bytes == path.stat().st_size
    assert read(gzip.compress(compress(data)))[1].format == f"{form}+{name}+gzip"


def test_a_cut_compressed_capture_gives_what_came_out() -> None:
    packed = gzip.compress(pcap([(i, 0, os.urandom(500)) for i in range(2_000)]))
    frames, summary = read(packed[:-200_000])
    assert 1_000 < len(frames) < 2_000
    (problem,) = summary.problems
    assert (problem.kind, problem.frame) == ("truncated", len(frames))
    assert "gzip" in problem.says


def test_a_wrong_checksum_is_told_and_the_frames_stand() -> None:
    packed = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(PCAP * 1))
    packed[-1] ^= 1
    with pytest.raises(NotACaptureError, match="checksum"):
        open_capture(io.BytesIO(bytes(packed)))
    big = bytearray(gzip.compress(pcap([(i, 0, os.urandom(500)) for i in range(1_000)])))
    big[-6] ^= 1
    frames, summary = read(bytes(big))
    assert len(frames) > 800
    assert summary.problems[0].kind == "corrupt"


def test_a_bomb_in_a_capture_is_a_problem() -> None:
    bomb = gzip.compress(pcap([(1, 0, b"x")]) + bytes(3_000_000))
    frames, summary = read(bomb, limits=Limits(expansion_free_bytes=100_000))
    assert frames[0].data == b"x"
    assert summary.problems[-1].kind == "limit"


def test_standard_input_is_a_pipe() -> None:
    code = (
        "from auditor.capture import open_capture\n"
        "with open_capture('-') as r:\n"
        "    n = sum(len(b) for b in r.batches())\n"
        "    s = r.summary()\n"
        "print(n, s.path, s.format, s.bytes, len(s.problems))\n"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root
    ) as process:
        assert process.stdin
        assert process.stdout
        packed = gzip.compress(PCAPNG)
        for i in range(0, len(packed), 40):
            process.stdin.write(packed[i : i + 40])
            process.stdin.flush()
        process.stdin.close()
        assert process.stdout.read().split() == [b"2", b"-", b"pcapng+gzip", str(len(packed)).encode(), b"0"]


def test_standard_input_that_is_a_terminal_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    with os.fdopen(slave) as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", terminal)
        with pytest.raises(InputError, match="neither a pipe"):
            open_capture("-")
        patch.setattr(sys, "stdin", None)
        with pytest.raises(InputError, match="neither a pipe"):
            open_capture("-")
    os.close(master)


def test_a_stream_is_closed_by_who_opened_it() -> None:
    stream = io.BytesIO(PCAP)
    with open_capture(stream, name="mine") as reader:
        assert sum(len(batch) for batch in reader.batches()) == 2
        with pytest.raises(RuntimeError):
            reader.batches()
    assert not stream.closed
    assert reader.summary().path == "mine"
    assert reader.read_bytes == len(PCAP)


def test_what_is_known_half_way(tmp_path: Path) -> None:
    path = tmp_path / "c.pcap"
    path.write_bytes(pcap([(i, 0, bytes(100)) for i in range(40_000)]))
    with open_capture(path) as reader:
        batches = reader.batches()
        first = next(batches)
        assert reader.summary().packets == len(first) < 40_000
        assert reader.total_bytes == path.stat().st_size
    assert reader.summary().problems == ()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"hello, world", "is not a pcap or pcapng"),
        (b"PK\x03\x04" + bytes(30), "ZIP"),
        (b"BZh91AY" + bytes(30), "bzip2"),
        (bytes(257) + b"ustar" + bytes(300), "tar"),
        (PCAP[:23], "file header"),
        (PCAPNG[:27], "file header"),
        (PCAPNG[:8] + b"abcd" + PCAPNG[12:], "is not a pcap or pcapng"),
        (gzip.compress(b""), "the gzip data is empty"),
        (gzip.compress(b"text")[:-9], "cut off"),
        (gzip.compress(b"some text"), "is not a pcap or pcapng"),
        (b"\x1f\x8b\x08" + bytes(7) + b"\xff" * 30, "gzip data is corrupt"),
    ],
    # Named by number: gzip writes the time of day into its header, and two workers would name the tests apart.
    ids=itertools.count(),
)
def test_what_is_no_capture_is_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "odd.pcap"
    path.write_bytes(content)
    with pytest.raises(NotACaptureError, match=says) as caught:
        open_capture(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert looks_like_capture(path) == (says == "file header"), "in a folder, a damaged capture is worth a word"


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        open_capture(tmp_path / "missing.pcap")
    with pytest.raises(InputError, match="is a folder"):
        open_capture(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        open_capture("with\0zero")


def test_what_fails_while_it_is_read_is_a_problem() -> None:
    class Dies(Trickle):
        def readinto(self, view: memoryview) -> int:
            count = super().readinto(view)
            if not count:
                raise OSError(5, "Input/output error")
            return count

    frames, summary = read(Dies(PCAP), name="disk")
    assert len(frames) == 2
    assert (summary.problems[0].kind, summary.problems[0].frame) == ("unreadable", 2)


def test_urls_are_read_through_fsspec(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://captures/a.pcap.gz", "wb") as out:
        out.write(gzip.compress(PCAP))
    frames, summary = read("memory://captures/a.pcap.gz")
    assert [f.data for f in frames] == [b"one", b"two"]
    assert summary.path == "memory://captures/a.pcap.gz"
    with pytest.raises(InputError, match="no such file"):
        open_capture("memory://captures/missing")
    with pytest.raises(InputError, match="cannot be opened"):
        open_capture("nonsense://x")
    assert expand(["memory://captures/a.pcap.gz", "-"]) == ["memory://captures/a.pcap.gz", "-"]


def test_urls_without_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingToolError, match="fsspec"):
        open_capture("s3://bucket/a.pcap")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "b.pcap").write_bytes(PCAP)
    (tmp_path / "a.txt").write_bytes(PCAPNG)
    (tmp_path / "deep" / "er" / "c").write_bytes(gzip.compress(PCAP))
    (tmp_path / "notes.pcap").write_bytes(b"only named like one")
    (tmp_path / "empty.pcap").write_bytes(b"")
    (tmp_path / "dangling.pcap").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.pcap")
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "readme").write_text("nothing")
    return tmp_path


def names(folder: Path, found: list[str]) -> list[str]:
    return [os.path.relpath(each, folder) for each in found]


def test_a_folder_gives_its_captures_by_content(folder: Path) -> None:
    assert names(folder, expand([str(folder)])) == ["a.txt", "b.pcap", "deep/er/c"]


def test_globs_and_several_arguments(folder: Path) -> None:
    assert names(folder, expand([f"{folder}/b.*", f"{folder}/a.txt"])) == ["b.pcap", "a.txt"]
    assert names(folder, expand([f"{folder}/de*"])) == ["deep/er/c"]
    assert names(folder, expand([f"{folder}/**/c"])) == ["deep/er/c"]
    assert names(folder, expand([f"{folder}/b.pcap", str(folder), f"{folder}/deep/../b.pcap"])) == [
        "b.pcap",
        "a.txt",
        "deep/er/c",
    ]
    odd = folder / "cell[1].pcap"
    odd.write_bytes(PCAP)
    assert names(folder, expand([str(odd)])) == ["cell[1].pcap"], "an existing name is not a glob"


def test_a_named_file_is_never_left_out(folder: Path) -> None:
    assert names(folder, expand([f"{folder}/notes.pcap"])) == ["notes.pcap"]


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("none", "no captures in folder"),
        ("missing.pcap", "no such file"),
        ("*.nope", "nothing matches"),
        ("x\0y", "not a file name"),
    ],
)
def test_arguments_that_name_nothing(folder: Path, argument: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        expand([f"{folder}/{argument}"])


def test_unreadable_files_of_a_folder_are_not_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_open = Path.open

    def guarded(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "notes.pcap":  # root may read everything, so the mode of the file would not do
            raise PermissionError(13, "Permission denied")
        return plain_open(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", guarded)
    found = expand([str(folder)])
    assert names(folder, found) == ["a.txt", "b.pcap", "deep/er/c", "notes.pcap"]
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        open_capture(found[-1])


def test_help_need_not_wait_for_the_compiler() -> None:
    code = "import sys, auditor.capture; print([m for m in ('numba', 'pandas') if m in sys.modules])"
    root = Path(__file__).resolve().parents[2]
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=root, text=True).stdout
    assert out.strip() == "[]"


@pytest.mark.parametrize("header", [PCAP[:24], Blocks().section().bytes], ids=["pcap", "pcapng"])
def test_a_running_capture_is_known_by_its_header_alone(header) -> None:
    """Nothing more is asked of it before the first packet comes."""

    class Waits(io.RawIOBase):
        """Whoever asks for more than there is would wait here."""

        left = header

        def readinto(self, view: memoryview) -> int:
            assert self.left, "waits for a packet"
            count = min(len(view), len(self.left))
            view[:count], self.left = self.left[:count], self.left[count:]
            return count

    with open_capture(Waits(), prompt=True) as reader:  # type: ignore[arg-type]
        assert reader.summary().packets == 0
