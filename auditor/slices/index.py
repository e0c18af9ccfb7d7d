"""Where in a capture a connection's packets are, so that they are found again without reading it all.

A capture is cut into blocks, a batch of the reader each. For a block the index holds where it begins, from when to when its frames are,
and a 64-bit number for each pair of ends (addresses, ports, protocol) that talks in it. So a connection's packets are in the blocks that have its
number and its time; a number that two pairs share costs a block read in vain, and nothing else.

An index lies in a folder of its own, under a name made of the capture's path; it is taken only for a file of the same size and time of
change whose first and last bytes are the same. It holds no packet. A compressed capture has none: nobody can begin in its middle.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auditor.capture import open_capture, reopen_capture
from auditor.capture.reader import CaptureReader, Place
from auditor.decode import Decoder, guess_link_type, relinked
from auditor.kernels._folder import read_trusted
from auditor.model.connections import STRAY_NS
from auditor.model.frames import FrameBatch
from auditor.model.limits import Limits
from auditor.model.packets import PACKET

VERSION = 1
PORTLESS = (1, 58)
"""ICMP and ICMPv6: what stands in the place of ports is type and code, which differ each way."""

_EDGE_BYTES = 64 * 1024
_ODD = tuple(
    np.uint64(each) for each in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93)
)


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a capture."""

    place: Place
    frames: int
    first_ns: int
    last_ns: int
    pairs: NDArray[np.uint64]
    """Numbers of the pairs in it, rising."""


@dataclass(frozen=True, slots=True)
class CaptureIndex:
    """All blocks of a capture."""

    blocks: tuple[Block, ...]
    link_type: int | None
    """What its frames have in truth, where its header claims another."""

    def where(self, pairs: NDArray[np.uint64], spans: Iterable[tuple[int, int]]) -> list[Block]:
        """Blocks that hold one of the pairs in its span of time (ns, both ends included); at any time if dates cannot be trusted."""
        wanted = list(zip(pairs.tolist(), spans, strict=True))
        return [
            block
            for block in self.blocks
            if any(
                ((first <= block.last_ns and last >= block.first_ns) or block.last_ns - block.first_ns > STRAY_NS)
                and _holds(block.pairs, pair)
                for pair, (first, last) in wanted
            )
        ]


def _holds(pairs: NDArray[np.uint64], pair: int) -> bool:
    at = int(np.searchsorted(pairs, np.uint64(pair)))
    return at < pairs.size and int(pairs[at]) == pair


def _end(high: NDArray[np.uint64], low: NDArray[np.uint64], port: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mixed: NDArray[np.uint64] = (high * _ODD[0]) ^ (low * _ODD[1]) ^ (port * _ODD[2])
    mixed ^= mixed >> np.uint64(29)
    mixed *= _ODD[3]
    mixed ^= mixed >> np.uint64(32)
    return mixed


def pair_numbers(rows: NDArray[np.void]) -> NDArray[np.uint64]:
    """A number for the two ends and the protocol of each PACKET row, the same both ways."""
    ports = ~np.isin(rows["proto"], PORTLESS)
    source = _end(rows["src_hi"], rows["src_lo"], rows["src_port"] * ports.astype(np.uint64))
    target = _end(rows["dst_hi"], rows["dst_lo"], rows["dst_port"] * ports.astype(np.uint64))
    return (source + target) * _ODD[0] ^ rows["proto"].astype(np.uint64)


def pair_number(one: tuple[int, int], other: tuple[int, int], protocol: int) -> int:
    """The same for two ends (address as 128 bits, port)."""
    row = np.zeros(1, PACKET)
    for (address, port), side in ((one, "src"), (other, "dst")):
        row[f"{side}_hi"], row[f"{side}_lo"] = address >> 64, address & (1 << 64) - 1
        row[f"{side}_port"] = port
    row["proto"] = protocol
    return int(pair_numbers(row)[0])


def read(
    reader: CaptureReader, link_type: int | None = None, guess: bool = True
) -> Iterator[tuple[FrameBatch, list[NDArray[np.void]], int | None]]:
    """Batches of a reader with their PACKET rows, and the link type that was put in the place of the claimed one."""
    decoder = Decoder()
    for batch in reader.batches():
        if guess and link_type is None and batch.first_frame_no == 1:
            link_type = guess_link_type(batch)
        taken = batch if link_type is None else relinked(batch, link_type)
        yield taken, [rows.copy() for rows in decoder.decode(taken)], link_type


def make(path: Path, *, link_type: int | None = None, limits: Limits | None = None) -> CaptureIndex:
    """The index of a capture, which is read once. Raises as ``open_capture``."""
    blocks: list[Block] = []
    truth = None
    whole = True
    with open_capture(path, link_type=link_type, limits=limits) as reader:
        for batch, rows, found in read(reader, guess=link_type is None):
            truth = found
            place = reader.place
            whole = whole and place is not None
            if place is None:
                continue
            pairs = np.unique(np.concatenate([pair_numbers(each) for each in rows])) if rows else np.zeros(0, np.uint64)
            blocks.append(Block(place, len(batch), int(batch.ts_ns.min()), int(batch.ts_ns.max()), pairs))
        plain = reader.format_name in ("pcap", "pcapng")
    return CaptureIndex(tuple(blocks) if whole and plain else (), truth)


def read_blocks(
    path: Path,
    index: CaptureIndex,
    blocks: Iterable[Block],
    *,
    link_type: int | None = None,
    limits: Limits | None = None,
) -> Iterator[tuple[CaptureReader, FrameBatch, list[NDArray[np.void]]]]:
    """The frames of these blocks in batches, with their PACKET rows."""
    for block in blocks:
        with reopen_capture(path, block.place, link_type=link_type, limits=limits) as reader:
            left = block.frames
            for batch, rows, _ in read(reader, index.link_type if link_type is None else None, guess=False):
                # The buffer is not filled as it was then: a batch may end earlier, or reach into the next block.
                taken = _first(batch, left)
                past = int(taken.numbers[-1]) + 1
                yield reader, taken, [each[each["frame"] < past] for each in rows]
                left -= len(taken)
                if not left:
                    break


def _first(batch: FrameBatch, count: int) -> FrameBatch:
    if len(batch) <= count:
        return batch
    columns = ["start", "caplen_bytes", "wirelen_bytes", "ts_ns", "interface", "link_type"]
    if batch.number is not None:
        columns.append("number")
    return replace(batch, **{name: getattr(batch, name)[:count] for name in columns})


# -- on disk ---------------------------------------------------------------------------------------------------------------------


def default_folder() -> Path:
    """Where indexes are kept unless another place is named (XDG base directories)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diego-flow-auditor" / "index"


def _identity(path: Path, link_type: int | None) -> str:
    """Of the file as it is now. Raises OSError."""
    about = path.stat()
    digest = hashlib.sha256(f"{VERSION} {about.st_size} {about.st_mtime_ns} {link_type}".encode())
    with path.open("rb") as file:
        digest.update(file.read(_EDGE_BYTES))
        file.seek(max(about.st_size - _EDGE_BYTES, 0))
        digest.update(file.read(_EDGE_BYTES))
    return digest.hexdigest()


def _file(path: Path, folder: Path) -> Path:
    return folder / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]}.npz"


def load(path: Path, folder: Path, link_type: int | None = None) -> CaptureIndex | None:
    """The kept index of a capture; None where there is none, or none of the file as it is now."""
    try:
        data = read_trusted(_file(path, folder))
        if data is None:
            return None
        with np.load(BytesIO(data), allow_pickle=False) as kept:
            if str(kept["identity"]) != _identity(path, link_type):
                return None
            truth = int(kept["link_type"])
            openings, ends = kept["openings"].tobytes(), kept["opening_ends"].tolist()
            starts = [0, *ends[:-1]]
            texts = [openings[start:end] for start, end in zip(starts, ends, strict=True)]
            edges = kept["pair_ends"].tolist()
            pairs = kept["pairs"]
            blocks = tuple(
                Block(Place(offset, before, texts[text]), frames, first, last, pairs[begin:end])
                for (offset, before, text, frames, first, last), begin, end in zip(
                    kept["blocks"].tolist(), [0, *edges[:-1]], edges, strict=True
                )
            )
            return CaptureIndex(blocks, None if truth < 0 else truth)
    except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError, zlib.error, zipfile.BadZipFile):
        return None


def save(index: CaptureIndex, path: Path, folder: Path, link_type: int | None = None) -> None:
    """Keep an index; where that is not possible, the capture will be read again, and that is all."""
    openings = list(dict.fromkeys(block.place.opening for block in index.blocks))
    number = {opening: at for at, opening in enumerate(openings)}
    table = [
        (
            block.place.offset,
            block.place.frames_before,
            number[block.place.opening],
            block.frames,
            block.first_ns,
            block.last_ns,
        )
        for block in index.blocks
    ]
    target = _file(path, folder)
    beside = target.with_name(f".{target.stem}.{os.getpid()}.npz")
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            np.savez(
                beside,
                identity=np.array(_identity(path, link_type)),
                link_type=np.array(-1 if index.link_type is None else index.link_type),
                openings=np.frombuffer(b"".join(openings), np.uint8),
                opening_ends=np.cumsum([len(each) for each in openings], dtype=np.int64),
                blocks=np.array(table, np.int64).reshape(-1, 6),
                pairs=np.concatenate([block.pairs for block in index.blocks]) if table else np.zeros(0, np.uint64),
                pair_ends=np.cumsum([block.pairs.size for block in index.blocks], dtype=np.int64),
            )
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
