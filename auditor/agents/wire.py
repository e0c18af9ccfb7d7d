"""What an agent sends of a window: connections and evidence as columns, compressed. No packets, and no secret.

A window is read as what a stranger sent: ``read_window`` gives one in which every number is inside the bounds that compiled code relies on, or raises
InputError, whatever the bytes are. Nothing in it is ever run. No first bytes of a connection are among them (``auditor.agents.partial``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from auditor.agents import evidence, records
from auditor.agents.columns import Column, pack, rising, summed, unpack, within
from auditor.conntrack import TrackedPart, View
from auditor.errors import InputError, WireError
from auditor.kernels import duplicates
from auditor.model.connections import FRAME_BITS, ODD, ODDS
from auditor.model.frames import REMARKS, Capture, Problem, VantagePoint
from auditor.model.quoted import QUOTE, QUOTES
from auditor.pipeline import Followed

Array = NDArray[Any]

MAGIC: Final = b"AUDWIN1\n"
VERSION: Final = "1"
"""Of the meaning of the columns: a window of another one is refused."""
TIME_BYTES: Final = 8
HEADER_BYTES: Final = len(MAGIC) + TIME_BYTES
LEVEL: Final = 9
MOST_BYTES: Final = 64 << 20
"""A window is no larger, compressed."""
MOST_EXPANDED: Final = 512 << 20
MOST_ROWS: Final = 4_000_000
MOST_CERTIFICATE: Final = 1 << 20
MOST_PROBLEMS: Final = 64
_KINDS: Final = frozenset({"truncated", "corrupt", "unsupported", "limit", "interrupted", *REMARKS})
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names of agents: parts of file names and of certificates."""
LIFE: Final = re.compile(r"[0-9a-f]{16}")
_TIME: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Window:
    """A window of one agent."""

    agent: str
    life: str
    """Of the agent's spool: it begins to count anew where that is new."""
    number: int
    """From 1, without a hole."""
    began_ns: int
    """By the agent's clock."""
    ended_ns: int
    followed: Followed


class _Body(msgspec.Struct, forbid_unknown_fields=False):
    """All of it."""

    agent: str
    life: str
    number: int
    began_ns: int
    ended_ns: int
    version: str
    format: str
    packets: int
    size: int
    first_ns: int | None
    last_ns: int | None
    digits: int
    link_type: int
    dropped: int | None
    problems: list[list[str]]
    interfaces: list[int]
    rows: int
    applications: list[str]
    application: Column
    records: dict[str, Column]
    found: evidence.Found
    second_rows: Column
    second_count: int
    second_applications: Column
    second: evidence.Found
    tracked_first_ns: int | None
    tracked_last_ns: int | None
    skipped: int
    evicted: int
    hits: dict[str, int]
    doubled: int
    apart_ns: int | None
    samples: int
    sample_columns: dict[str, Column]
    quotes: int
    quote_columns: dict[str, Column]
    odds: int
    odd_columns: dict[str, Column]
    certificates: list[bytes]


def write_window(window: Window, applications: Sequence[str]) -> bytes:
    """As bytes; ``applications``: the names behind the numbers of the records."""
    followed, part = window.followed, window.followed.part
    rows, capture = part.rows, window.followed.capture
    second = sorted(part.second.items())
    view = next(iter(part.views.values()), View())
    samples = _chosen(part.samples, capture.packets)
    body = _Body(
        agent=window.agent,
        life=window.life,
        number=window.number,
        began_ns=window.began_ns,
        ended_ns=window.ended_ns,
        version=VERSION,
        format=capture.format,
        packets=capture.packets,
        size=capture.bytes,
        first_ns=capture.first_ns,
        last_ns=capture.last_ns,
        digits=capture.time_digits,
        link_type=capture.vantage_points[0].link_type if capture.vantage_points else 0,
        dropped=capture.dropped,
        problems=[[each.kind, each.says] for each in capture.problems[:MOST_PROBLEMS]],
        interfaces=[interface for _, interface in part.places],
        rows=len(rows),
        applications=list(applications),
        application=pack(rows["application"]),
        records=records.to_columns(rows),
        found=evidence.to_columns(rows, [*part.facts, *[None] * (len(rows) - len(part.facts))]),
        second_rows=pack(rising(np.array([row for row, _ in second], np.int64))),
        second_count=len(second),
        second_applications=pack(np.array([application for _, (application, _) in second], np.int64)),
        second=evidence.to_columns(rows[[row for row, _ in second]], [facts for _, (_, facts) in second]),
        tracked_first_ns=part.first_ns,
        tracked_last_ns=part.last_ns,
        skipped=part.skipped,
        evicted=part.evicted,
        hits=part.hits,
        doubled=view.doubled,
        apart_ns=view.apart_ns,
        samples=len(samples),
        sample_columns=_table(samples),
        quotes=len(part.quotes),
        quote_columns=_table(part.quotes),
        odds=len(part.odds),
        odd_columns=_table(part.odds),
        certificates=list(followed.certificates.values()),
    )  # fmt: skip
    raw = msgspec.msgpack.encode(body)
    packed = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(raw)
    return MAGIC + window.ended_ns.to_bytes(TIME_BYTES, "big", signed=True) + packed


def ended_ns_of(raw: bytes) -> int | None:
    """When a window ended, by its agent's clock, without reading it; None: these bytes are none."""
    if not raw.startswith(MAGIC) or len(raw) < HEADER_BYTES:
        return None
    told = int.from_bytes(raw[len(MAGIC) : HEADER_BYTES], "big", signed=True)
    return told if abs(told) < _TIME else None


def read_window(raw: bytes, name: str, index: int = 0) -> Window:
    """The window in these bytes, as capture number ``index`` of an audit. Raises InputError, whatever the bytes are."""
    try:
        return _read(raw, index)
    except WireError as error:
        raise InputError(name, f"is no window that an agent sent: {error.says}") from None
    except (msgspec.MsgspecError, zstandard.ZstdError, RecursionError, UnicodeDecodeError) as error:
        says = str(error).splitlines()[0][:120] if isinstance(error, msgspec.MsgspecError) else "it is damaged"
        raise InputError(name, f"is no window that an agent sent: {says}") from None


def _read(raw: bytes, index: int) -> Window:
    if not raw.startswith(MAGIC):
        raise WireError("it does not begin as one")
    packed = raw[HEADER_BYTES:]
    size = zstandard.frame_content_size(packed)
    if not 0 <= size <= MOST_EXPANDED:
        raise WireError("it does not say its size, or is too large")
    plain = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompress(packed, max_output_size=MOST_EXPANDED)
    body = msgspec.msgpack.decode(plain, type=_Body)
    if body.version != VERSION:
        raise WireError("it is of another version of the auditor")
    if not (NAME.fullmatch(body.agent) and LIFE.fullmatch(body.life) and 1 <= body.number < 1 << 53):
        raise WireError("it does not say whose it is")
    if body.ended_ns != ended_ns_of(raw):
        raise WireError("it says two times for its end")
    if not 0 <= body.rows <= MOST_ROWS:
        raise WireError("it has too many connections")
    _plausible(body)
    return Window(body.agent, body.life, body.number, body.began_ns, body.ended_ns, _followed(body, index))


def _plausible(body: _Body) -> None:
    """Raises WireError where a number outside of the columns is none that a window has."""
    times = (body.began_ns, body.ended_ns, body.first_ns, body.last_ns, body.tracked_first_ns, body.tracked_last_ns)
    counts = (body.packets, body.size, body.dropped, body.skipped, body.evicted, body.doubled, *body.hits.values())
    within(np.array([each for each in times if each is not None], object), -_TIME, _TIME, "a time")
    within(np.array([each for each in counts if each is not None], object), 0, 1 << 53, "a count")
    if not (0 <= body.digits <= 9 and 0 <= body.link_type < 1 << 16 and len(body.hits) <= 64):
        raise WireError("its capture is none")
    if not 1 <= len(body.interfaces) <= 64 or any(not 0 <= each < 1 << 31 for each in body.interfaces):
        raise WireError("its interfaces are none")
    if len(body.problems) > MOST_PROBLEMS or any(len(each) != 2 or each[0] not in _KINDS for each in body.problems):
        raise WireError("its problems are none")


def _followed(body: _Body, index: int) -> Followed:
    from auditor.inspectors._examine import Examiner

    base = index << FRAME_BITS
    rows = records.to_rows(body.records, body.rows)
    names = {name: number for number, name in enumerate(Examiner().applications)}
    told = np.array([names.get(name, names["unknown"]) for name in body.applications] + [-1], np.int16)
    rows["application"] = told[
        within(unpack(body.application, body.rows), -1, len(body.applications) - 1, "an application")
    ]
    facts = evidence.from_columns(body.found, rows, base)
    second = _second(body, rows, told, base)
    if body.rows and int(np.bitwise_or.reduce(rows["captures"])) >> len(body.interfaces):
        raise WireError("connections are from an interface that is not there")
    for name in ("first_frame", "last_frame"):
        rows[name] += base
    part = TrackedPart(
        rows,
        facts,
        {},
        body.tracked_first_ns,
        body.tracked_last_ns,
        body.skipped,
        body.evicted,
        dict(body.hits),
        tuple((index, interface) for interface in body.interfaces),
        _samples(body),
        views={index: View(body.doubled, body.apart_ns)},
        quotes=_quotes(body, base),
        odds=_odds(body, base),
        second=second,
    )
    capture = Capture(
        path=f"agent://{body.agent}",
        format="agent",
        packets=body.packets,
        bytes=body.size,
        first_ns=body.first_ns,
        last_ns=body.last_ns,
        time_digits=body.digits,
        vantage_points=(VantagePoint(body.agent, None, body.link_type, 0),),
        dropped=body.dropped,
        problems=tuple(Problem(kind, says) for kind, says in body.problems),
    )
    certificates = {}
    for der in body.certificates:
        if len(der) > MOST_CERTIFICATE:
            raise WireError("a certificate is too large")
        certificates[hashlib.sha256(der).hexdigest()] = der
    return Followed(capture, part, certificates)


def _second(body: _Body, rows: Array, told: Array, base: int) -> dict[int, tuple[int, Any]]:
    if not 0 <= body.second_count <= body.rows:
        raise WireError("more second readings than connections")
    at = within(summed(unpack(body.second_rows, body.second_count)), 0, body.rows - 1, "a second reading")
    some = rows[at]
    which = within(unpack(body.second_applications, at.size), -1, len(body.applications) - 1, "an application")
    facts = evidence.from_columns(body.second, some, base)
    return {row: (int(told[code]), fact) for row, code, fact in zip(at.tolist(), which.tolist(), facts, strict=True)}


# Tables beside the connections


def _table(rows: Array) -> dict[str, Column]:
    """Each field of a table of records."""
    return {name: pack(rows[name]) for name in rows.dtype.names or ()}


def _fields(columns: dict[str, Column], n: int, most: int, dtype: Any) -> Array:
    if not 0 <= n <= most:
        raise WireError("a table is too long")
    out = np.zeros(n, dtype)
    for name in dtype.names:
        if name not in columns:
            raise WireError(f"column {name} is missing")
        values = unpack(columns[name], n)
        kind = dtype[name]
        if kind.itemsize < 8:
            bounds = np.iinfo(kind)
            within(values, int(bounds.min), int(bounds.max), name)
        out[name] = values.view(np.uint64) if kind == np.uint64 else values
    return out


def _checked(table: Array, name: str, least: int, most: int) -> None:
    within(table[name].astype(np.int64), least, most, name)


def _chosen(samples: Array, packets: int) -> Array:
    """Fewer samples, the same choice at every place."""
    most = max(256, packets // 64)
    mask = np.uint64(0)
    while len(samples) > most and mask < np.uint64(0xFFFF_FFFF):
        mask = (mask << np.uint64(1)) | np.uint64(1)
        samples = samples[(samples["print"] >> np.uint64(14)) & mask == 0]
    return samples


def _samples(body: _Body) -> Array:
    table = _fields(body.sample_columns, body.samples, duplicates.SAMPLES, duplicates.SAMPLE)
    _checked(table, "row", 0, body.rows - 1)
    _checked(table, "side", 0, 1)
    _checked(table, "place", 0, len(body.interfaces) - 1)
    _checked(table, "ts_ns", -_TIME, _TIME)
    return table


def _quotes(body: _Body, base: int) -> Array:
    table = _fields(body.quote_columns, body.quotes, QUOTES, QUOTE)
    _checked(table, "ts_ns", -_TIME, _TIME)
    _checked(table, "count", 1, 1 << 53)
    _checked(table, "frame", 0, records.MOST_FRAMES - 1)
    _checked(table, "inside", 0, 1)
    table["frame"] += base
    return table


def _odds(body: _Body, base: int) -> Array:
    from auditor.conntrack import ODDS_KEPT

    table = _fields(body.odd_columns, body.odds, ODDS_KEPT, ODD)
    _checked(table, "row", 0, body.rows - 1)
    _checked(table, "side", 0, 1)
    _checked(table, "kind", 0, len(ODDS) - 1)
    _checked(table, "frame", 0, records.MOST_FRAMES - 1)
    _checked(table, "against", -1, records.MOST_FRAMES - 1)
    table["frame"] += base
    table["against"][table["against"] >= 0] += base
    return table
