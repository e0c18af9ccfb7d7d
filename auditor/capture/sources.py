"""Bytes of a capture, wherever they come from and however they are compressed.

A source has one verb, ``readinto(view) -> int``: at least one byte, or 0 at the end. Sources stand on one another:

    RawSource (file, pipe, URL)  ->  Rewound (gives back what was looked at)  ->  Members (one decoder)  ->  ...

The rules:

- What is wrong with the bytes is a SourceError, raised after everything before it has been handed on; the reader of the capture
  turns it into a Problem. No other error is raised for bad bytes.
- Compression is known by content. Concatenated members (gzip), frames (zstd, lz4) and streams (xz) are one stream of bytes, as
  their tools treat them: RFC 1952 section 2.2, RFC 8878 section 3, LZ4 frame format, xz file format section 1.
- No step holds more than a chunk of input and a piece of output, whatever the input claims.
- A source at its end may be asked again. A file that grows is followed by a RawSource that waits instead of returning 0
  (``auditor.capture.growing``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Any, BinaryIO, Final, Protocol, cast

from auditor.capture.remote import without_secrets
from auditor.model.limits import Limits, told

CHUNK_BYTES: Final = 64 * 1024
"""Compressed bytes read at once."""
PIECE_BYTES: Final = 64 * 1024
"""Decompressed bytes asked for at once. A decoder that finds an error loses its current piece, so it is small."""

HEAD_BYTES: Final = 512
"""Bytes from which the format is recognised."""

MAGIC_BYTES: Final = 8
"""The longest magic number of a compression is shorter."""


class SourceError(Exception):
    """The bytes end or break here. ``kind`` is a Problem's kind."""

    def __init__(self, kind: str, says: str) -> None:
        self.kind, self.says = kind, says
        super().__init__(says)


class Source(Protocol):
    """Where bytes come from."""

    def readinto(self, view: memoryview) -> int:
        """Fill the front of ``view`` (not empty); 0 at the end. Raises SourceError."""
        ...


class RawSource:
    """An open binary file, pipe or remote object; counts what came through."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read_bytes = 0
        self._readinto: Callable[[memoryview], int | None] | None = getattr(file, "readinto1", None) or getattr(
            file, "readinto", None
        )

    def readinto(self, view: memoryview) -> int:
        """Raises SourceError where the system or the remote end fails."""
        try:
            if self._readinto is not None:
                count = self._readinto(view) or 0
            else:
                data = self._file.read(len(view))
                count = len(data)
                view[:count] = data
        except Exception as error:  # remote file systems raise errors of their own libraries
            raise SourceError("unreadable", f"reading failed: {without_secrets(_one_line(error))}") from error
        self.read_bytes += count
        return count


class Rewound:
    """A source after its head was looked at: gives the head again, then the rest."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._head = b""
        self._failed: SourceError | None = None

    def peek(self, size: int = HEAD_BYTES) -> bytes:
        """The next ``size`` bytes, fewer at the end. An error is kept for who reads as far."""
        room = bytearray(size)
        while len(self._head) < size and self._failed is None:
            try:
                count = self._source.readinto(memoryview(room)[: size - len(self._head)])
            except SourceError as error:
                self._failed = error
                break
            if count == 0:
                break
            self._head += bytes(room[:count])
        return self._head

    @property
    def failed(self) -> SourceError | None:
        """What went wrong while peeking."""
        return self._failed

    def readinto(self, view: memoryview) -> int:
        """The head first; then an error met while peeking; then the rest."""
        if self._head:
            count = min(len(view), len(self._head))
            view[:count] = self._head[:count]
            self._head = self._head[count:]
            return count
        if self._failed is not None:
            raise self._failed
        return self._source.readinto(view)


class _Guard:
    """Stops what expands beyond the limits."""

    def __init__(self, raw: RawSource, limits: Limits) -> None:
        self._raw, self._limits = raw, limits
        self._out = 0

    def let_out(self, count: int) -> None:
        """Raises SourceError where ``count`` more bytes pass a limit."""
        self._out += count
        if self._out > self._limits.expanded_bytes:
            says = f"expands to more than {self._limits.expanded_bytes} bytes; reading stopped"
            raise SourceError("limit", told("expanded_bytes", self._limits, says))
        if (
            self._out > self._limits.expansion_free_bytes
            and self._out > self._limits.expansion_ratio * self._raw.read_bytes
        ):
            ratio = self._limits.expansion_ratio
            says = f"expands to more than {ratio} times its size, like a decompression bomb; reading stopped"
            raise SourceError("limit", told("expansion_ratio", self._limits, says))


class Members:
    """gzip, xz or lz4: members one after the other, each with a decoder of the interface of bz2.BZ2Decompressor."""

    def __init__(
        self,
        name: str,
        source: Source,
        guard: _Guard,
        limits: Limits,
        make: Callable[[], Any],
        starts: Callable[[bytes], bool],
    ) -> None:
        self._name, self._source, self._guard = name, source, guard
        self._limits = limits
        self._make, self._starts = make, starts
        self._decoder: Any = None
        self._waiting = b""
        self._chunk = bytearray(CHUNK_BYTES)
        self._members = 0

    def readinto(self, view: memoryview) -> int:
        """Raises SourceError: cut off, corrupt, limit, or what the source below raises."""
        while True:
            if self._decoder is None and not self._next_member():
                return 0
            data = b""
            if self._decoder.needs_input and not self._decoder.eof:
                data, self._waiting = self._waiting or self._more(), b""
                if not data:
                    raise SourceError("truncated", f"the {self._name} data is cut off")
            try:
                piece = self._decoder.decompress(data, min(len(view), PIECE_BYTES))
            except Exception as error:  # each library has its own
                raise _decoder_failed(self._name, error, self._limits) from error
            if self._decoder.eof:
                self._waiting, self._decoder = self._decoder.unused_data or b"", None
            if piece:
                self._guard.let_out(len(piece))
                view[: len(piece)] = piece
                return len(piece)

    def _more(self) -> bytes:
        return bytes(self._chunk[: self._source.readinto(memoryview(self._chunk))])

    def _next_member(self) -> bool:
        """A decoder for the next member; False at the end. Zero bytes between members are padding (gzip(1), xz(1))."""
        while True:
            if self._members:
                self._waiting = self._waiting.lstrip(b"\0")
            if len(self._waiting) < HEAD_BYTES:
                more = self._more()
                self._waiting += more
                if more:
                    continue
            if not self._waiting:
                return False
            if not self._starts(self._waiting):
                raise SourceError("corrupt", f"the {self._name} data is followed by other data")
            self._members += 1
            self._decoder = self._make()
            return True


class ZstdFrames:
    """zstd frames. The library does not distinguish a cut from an end, so the frames are counted."""

    def __init__(self, source: Source, guard: _Guard, limits: Limits) -> None:
        import zstandard

        self._guard, self._limits = guard, limits
        self._frames = _ZstdOutline(source)
        self._reader = zstandard.ZstdDecompressor(max_window_size=limits.window_bytes).stream_reader(
            cast(IO[bytes], self._frames), read_size=CHUNK_BYTES, read_across_frames=True
        )
        self._error: type[Exception] = zstandard.ZstdError

    def readinto(self, view: memoryview) -> int:
        """Raises SourceError: cut off, corrupt, limit, or what the source below raises."""
        try:
            count: int = self._reader.readinto(view[:PIECE_BYTES])
        except self._error as error:
            raise _decoder_failed("zstd", error, self._limits) from error
        if count == 0 and self._frames.foreign:
            raise SourceError("corrupt", "the zstd data is followed by other data")
        if count == 0 and not self._frames.between:
            raise SourceError("truncated", "the zstd data is cut off")
        self._guard.let_out(count)
        return count


class _ZstdOutline:
    """Passes a zstd stream on and follows its outline (RFC 8878 section 3.1), to know whether it ends inside a frame.

    What is no frame ends the stream: the decoder would drop what it just decoded together with the error.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._step: Callable[[bytes], None] = self._magic
        self._held = b""
        self._want = 4
        self._skip = 0
        self._checksum = False
        self.foreign = False
        """Bytes that are no frame follow the frames."""

    @property
    def between(self) -> bool:
        """At the end of a frame or before the first."""
        return self._skip == 0 and not self._held and self._step == self._magic

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes, for the decoder; none at the end."""
        if self.foreign:
            return b""
        room = bytearray(size)
        data = bytes(room[: self._source.readinto(memoryview(room))])
        return data[: self._follow(data)]

    def _follow(self, data: bytes) -> int:
        """How many of the bytes belong to frames."""
        at = 0
        while at < len(data):
            if self._skip:
                passed = min(self._skip, len(data) - at)
                self._skip -= passed
                at += passed
                continue
            taken = data[at : at + self._want - len(self._held)]
            at += len(taken)
            self._held += taken
            if len(self._held) == self._want:
                field, self._held = self._held, b""
                self._step(field)
                if self.foreign:
                    return at - len(taken)
        return at

    def _expect(self, step: Callable[[bytes], None], want: int) -> None:
        self._step, self._want = step, want

    def _magic(self, field: bytes) -> None:
        if field == ZSTD_MAGIC:
            self._expect(self._descriptor, 1)
        elif _is_skippable(field):
            self._expect(self._skippable_size, 4)
        else:
            self.foreign = True

    def _skippable_size(self, field: bytes) -> None:
        self._skip = int.from_bytes(field, "little")
        self._expect(self._magic, 4)

    def _descriptor(self, field: bytes) -> None:
        flags = field[0]
        single_segment = flags >> 5 & 1
        self._checksum = bool(flags >> 2 & 1)
        content_size = (single_segment, 2, 4, 8)[flags >> 6]
        self._skip = (1 - single_segment) + (0, 1, 2, 4)[flags & 3] + content_size
        self._expect(self._block, 3)

    def _block(self, field: bytes) -> None:
        header = int.from_bytes(field, "little")
        is_run = header >> 1 & 3 == 1
        self._skip = 1 if is_run else header >> 3
        if header & 1:
            self._skip += 4 if self._checksum else 0
            self._expect(self._magic, 4)


GZIP_MAGIC: Final = b"\x1f\x8b\x08"
"""RFC 1952 section 2.3.1, with the only compression method there is."""
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
"""RFC 8878 section 3.1.1."""
XZ_MAGIC: Final = b"\xfd7zXZ\x00"
"""xz file format, section 2.1.1.1."""
LZ4_MAGIC: Final = b"\x04\x22\x4d\x18"
"""LZ4 frame format, "Magic Number"."""
_SKIPPABLE_TAIL: Final = b"\x2a\x4d\x18"


def _is_skippable(head: bytes) -> bool:
    """A skippable frame, 0x184D2A50 to 0x184D2A5F: RFC 8878 section 3.1.2; the LZ4 frame format has the same."""
    return len(head) >= 4 and head[0] & 0xF0 == 0x50 and head[1:4] == _SKIPPABLE_TAIL


def compression_of(head: bytes) -> str | None:
    """gzip, zstd, xz, lz4, or None; by the first bytes."""
    if head.startswith(GZIP_MAGIC):
        return "gzip"
    if head.startswith(XZ_MAGIC):
        return "xz"
    if head.startswith(LZ4_MAGIC):
        return "lz4"
    if head.startswith(ZSTD_MAGIC) or _is_skippable(head):
        return "zstd"
    return None


def decompressed(name: str, source: Source, raw: RawSource, limits: Limits) -> Source:
    """``source`` as its compression (a word of ``compression_of``) expands it."""
    guard = _Guard(raw, limits)
    if name == "zstd":
        return ZstdFrames(source, guard, limits)
    if name == "gzip":
        from isal import igzip_lib

        return Members(
            "gzip",
            source,
            guard,
            limits,
            lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP),
            lambda head: head.startswith(GZIP_MAGIC[: len(head)]),
        )
    if name == "xz":
        import lzma

        return Members(
            "xz",
            source,
            guard,
            limits,
            # The decoder needs its window and a little more.
            lambda: lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=limits.window_bytes + 1024 * 1024),
            lambda head: head.startswith(XZ_MAGIC[: len(head)]),
        )
    import lz4.frame

    return Members("lz4", source, guard, limits, lz4.frame.LZ4FrameDecompressor, _starts_lz4)


def _starts_lz4(head: bytes) -> bool:
    return head.startswith(LZ4_MAGIC[: len(head)]) or _is_skippable(head)


def unwrapped(raw: RawSource, limits: Limits, look_bytes: int = HEAD_BYTES) -> tuple[Rewound, list[str]]:
    """``raw`` without its compressions, at most ``limits.nesting``; and their names, outermost first. No more than ``look_bytes`` are waited for."""
    source, names = Rewound(raw), list[str]()
    while (name := compression_of(source.peek(look_bytes))) is not None and len(names) < limits.nesting:
        names.append(name)
        source = Rewound(decompressed(name, source, raw, limits))
    return source, names


def _decoder_failed(name: str, error: Exception, limits: Limits) -> SourceError:
    says = _one_line(error)
    if "memory" in says.lower():  # the words of liblzma and libzstd for a window above the limit
        return SourceError(
            "limit", told("window_bytes", limits, f"the {name} data asks for too much memory ({says}); reading stopped")
        )
    return SourceError("corrupt", f"the {name} data is corrupt: {says}")


def _one_line(error: BaseException) -> str:
    """The error's text fit for one line of a message."""
    return " ".join(str(error).split()) or type(error).__name__
