"""Rows of a text table, one line each, as wide as the terminal.

Connections that do not fit are first shortened (the day becomes a line of its own; fewer digits), then lose columns,
the least important first, then the middle of addresses. Whatever was left out or shortened is said below the table, or marked with ``…``:
csv, json and ``--fields`` have everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from auditor.model.audit import Audit
from auditor.report._records import text_rows
from auditor.report._text import clip, escape, wrapped

CELL = 400
"""Texts are cut to this length; JSON has all."""

MARK = "…"
_END = 25
"""Up to this width an end is shown in full, and columns are left out instead: enough for any IPv4 address with a port."""
_WORDS = 18
"""Up to this width names of paths are shown in full where room is short."""
_LEAST = 9
"""No end is cut shorter than this."""

_JUDGED = ("disposition", "paths", "authentication_verdict")


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    cells: Sequence[str]
    right: bool = False
    order: int = 0
    """The higher, the earlier it is left out; 0: never."""

    @property
    def width(self) -> int:
        return max(map(len, (self.title, *self.cells)))


def safe(text: object) -> str:
    """``text`` made fit for a terminal, and no longer than a cell may be."""
    return clip(escape(str(text)), CELL)


def connection_lines(audit: Audit, most: int, width: int) -> Iterator[str]:
    """The first ``most`` connections in at most ``width`` columns (50 are enough)."""
    names = [
        "start", "duration", "transport", "application", "conn_state", "originator_ip", "originator_port",
        "responder_ip", "responder_port", "originator_bytes", "responder_bytes",
        *(name for name in _JUDGED if name in audit.connections.columns),
    ]  # fmt: skip
    rows = [list(map(safe, row)) for row in text_rows(audit, "connections", names, most)]
    told = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if rows else {name: [] for name in names}
    for brevity, gap in ((0, 2), (1, 2), (2, 2), (2, 1)):
        columns = _columns(told, brevity)
        if _total(columns, gap) <= width:
            break
    left_out: list[str] = []
    if _total(columns, gap) > width:
        for room in (2 * _WORDS, _WORDS):
            columns = [
                replace(each, cells=_clipped(each.cells, room)) if each.title == "PATH" else each for each in columns
            ]
            if _total(columns, gap, _END) <= width:
                break
        while _total(columns, gap, _END) > width and any(each.order for each in columns):
            last = max(columns, key=lambda each: each.order)
            columns.remove(last)
            left_out.append(last.title)
        columns = _fitted(columns, gap, width)
    days = [start[:10] for start in told["start"]] if brevity else [""] * len(rows)
    widths = [each.width for each in columns]
    day = ""
    titled = False
    for number in range(len(rows) + (not rows)):
        if rows and days[number] != day:
            day = days[number]
            yield f"{day} (UTC)"
        if not titled:
            titled = True
            yield _line([each.title for each in columns], columns, widths, gap)
        if rows:
            yield _line([each.cells[number] for each in columns], columns, widths, gap)
    marked = any(MARK in cell for each in columns for cell in each.cells)
    notes = [f"without {', '.join(left_out)}"] if left_out else []
    notes += [f"{MARK} marks shortened values"] if marked else []
    if notes:
        yield from wrapped(f"To fit {width} columns: {'; '.join(notes)} (--format csv and --fields show all)", width)


def _columns(told: dict[str, list[str]], brevity: int) -> list[_Column]:
    """0: as it is; 1: without the day; 2: without what is behind the second and the third digit."""
    starts = told["start"]
    if brevity == 0:
        when = _Column("START", starts)
    else:
        when = _Column("TIME", [start[11:23].rstrip("Z") if brevity == 1 else start[11:19] for start in starts])
    sizes = [told["originator_bytes"], told["responder_bytes"]]
    if brevity > 1:
        sizes = [[_short(cell) for cell in cells] for cells in sizes]
    lasted = told["duration"] if brevity < 2 else list(map(_lasted, told["duration"]))
    columns = [
        when,
        _Column("DURATION" if brevity < 2 else "LASTED", lasted, right=True, order=9),
        _Column("PROTO", told["transport"], order=2 if "paths" in told else 0),
        _Column("ORIGINATOR", _ends(told["originator_ip"], told["originator_port"])),
        _Column("RESPONDER", _ends(told["responder_ip"], told["responder_port"])),
        _Column("APP", told["application"], order=3 if "paths" in told else 0),
        _Column("STATE", told["conn_state"], order=6),
        _Column("SENT", sizes[0], right=True, order=8),
        _Column("RCVD", sizes[1], right=True, order=7),
    ]
    if "disposition" in told:
        paths = told.get("paths", ["-"] * len(starts))
        named = [word if path == "-" else path for path, word in zip(paths, told["disposition"], strict=True)]
        columns.append(_Column("PATH", named))
    if "authentication_verdict" in told:
        columns.append(_Column("VERDICT", told["authentication_verdict"], order=1))
    return columns


def _ends(addresses: Sequence[str], ports: Sequence[str]) -> list[str]:
    """Address and port; an IPv6 address before a port in brackets."""
    return [
        address if port == "-" else f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        for address, port in zip(addresses, ports, strict=True)
    ]


def _short(number: str) -> str:
    """Bytes in at most five characters: 1023, 9.8K, 412M."""
    if not number.isdigit():
        return number
    size = float(number)
    for unit in ("", "K", "M", "G", "T", "P"):
        if size < 999.5 or unit == "P" or (not unit and size < 1024):
            break
        size /= 1024
    return f"{size:.1f}{unit}" if unit and size < 9.95 else f"{size:.0f}{unit}"


def _lasted(seconds: str) -> str:
    """Seconds in at most six characters: 0.050s, 12.3s, 5m03s, 2h05m, 3d04h."""
    try:
        value = float(seconds)
    except ValueError:
        return seconds
    if value < 59.95:
        return f"{value:.3f}s" if value < 9.9995 else f"{value:.1f}s"
    whole = round(value)
    for low, high, names in ((60, 3_600, "ms"), (3_600, 86_400, "hm"), (86_400, 0, "dh")):
        if whole < high or not high:
            below = {60: 1, 3_600: 60, 86_400: 3_600}[low]
            return f"{whole // low}{names[0]}{whole % low // below:02}{names[1]}"
    raise AssertionError


def _total(columns: Sequence[_Column], gap: int, most: int = CELL) -> int:
    """Columns that the table takes, where ends take no more than ``most``."""
    widths = [min(each.width, most) if each.title in ("ORIGINATOR", "RESPONDER") else each.width for each in columns]
    return sum(widths) + gap * (len(widths) - 1)


def _fitted(columns: Sequence[_Column], gap: int, width: int) -> list[_Column]:
    """The columns with ends as long as there is room for."""
    ends = {each.title: each.width for each in columns if each.title in ("ORIGINATOR", "RESPONDER")}
    room = width - (_total(columns, gap) - sum(ends.values()))
    if sum(ends.values()) > room:
        small, large = sorted(ends, key=lambda title: ends[title])
        ends[small] = max(min(ends[small], room // 2), len(small), _LEAST)
        ends[large] = max(room - ends[small], len(large), _LEAST)
    return [
        replace(each, cells=[_in_the_middle(cell, ends[each.title]) for cell in each.cells])
        if each.title in ends
        else each
        for each in columns
    ]


def _in_the_middle(end: str, room: int) -> str:
    """An end of a connection, shortened in its address: the port stays."""
    if len(end) <= room:
        return end
    address, colon, port = end.rpartition(":") if "]:" in end or end.count(":") == 1 else (end, "", "")
    keep = max(room - len(colon + port) - len(MARK), 2)
    tail = keep // 2
    return address[: keep - tail] + MARK + address[len(address) - tail :] + colon + port


def _clipped(cells: Sequence[str], room: int) -> list[str]:
    return [cell if len(cell) <= room else cell[: room - 1] + MARK for cell in cells]


def _line(cells: Sequence[str], columns: Sequence[_Column], widths: Sequence[int], gap: int) -> str:
    aligned = (
        cell.rjust(width) if column.right else cell.ljust(width)
        for cell, column, width in zip(cells, columns, widths, strict=True)
    )
    return (" " * gap).join(aligned).rstrip()


def plain_lines(audit: Audit, table: str, names: Sequence[str], most: int) -> Iterator[str]:
    """The first ``most`` rows of a table with these columns, as wide as they are."""
    found = [list(map(safe, row)) for row in text_rows(audit, table, names, most)]
    lines = [[name.upper() for name in names], *found]
    widths = [max((len(line[i]) for line in lines), default=0) for i in range(len(names))]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def record_lines(audit: Audit, table: str, names: Sequence[str], most: int, width: int) -> Iterator[str]:
    """The first ``most`` rows of a table as paragraphs, a line (or more) a column; what is missing has none."""
    room = max(map(len, names)) + 2
    for number, row in enumerate(text_rows(audit, table, names, most)):
        if number:
            yield ""
        for name, value in zip(names, row, strict=True):
            if value not in ("-", "[]", "{}"):
                for at, line in enumerate(wrapped(safe(value), max(width - room, 20))):
                    yield f"{'' if at else name.upper():<{room}}{line}".rstrip()
