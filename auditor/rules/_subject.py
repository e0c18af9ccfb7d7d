"""What makes a finding one finding: its subject.

An operator wants one line for one fact, however many connections show it, and the same line tomorrow. So connections are grouped by
(path, originator, responder, service port, protocol), where an end is its role, or its address when it is in no inventory: a second cell that
does the same is the same fact, a second intruder is another one. Ports from the host-port range of application instances are one
service, whatever number an instance got. The path is the documented one, or for undeclared traffic the near miss.

The fingerprint is a hash of the rule's name and that tuple and of nothing else: no time, no count, no capture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from auditor.model.finding import Finding

HOST_PORT_FIRST = 61_001
HOST_PORT_LAST = 65_534
HOST_PORTS = f"{HOST_PORT_FIRST}-{HOST_PORT_LAST}"
"""Garden's port pool on a cell (guardian, guardiancmd/command.go: start 61001, size 4534): the range's name as a service."""

WINDOWS_FIRST = 40_000
WINDOWS_LAST = 44_999
WINDOWS_PORTS = f"{WINDOWS_FIRST}-{WINDOWS_LAST}"
"""The same on a Windows cell (winc, cmd/winc-network/main.go)."""
WINDOWS = "cell_on_windows"
"""Role of such a cell by which its application instances are reached."""
_WINDOWS_SERVICE = -2

MOST_SUBJECTS = 20_000
"""Of so many subjects a rule tells one by one. Of more, ends that nobody knows are told together, then services: nobody reads more, and who makes
addresses up would decide what an audit costs. Every connection stays in a finding."""
MANY_ADDRESSES = "many addresses"
MANY_PORTS = "many ports"
_MANY_PORTS = -3
_UNPRIVILEGED = 1_024

FIRST_FRAMES = 5
"""So many connections are shown as evidence of one finding; the others are in ``rows``."""

NAMED_ENDS = 3
"""So many addresses are named in a detail sentence."""

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]


def fingerprint(rule: str, subject: Sequence[str]) -> str:
    """32 hexadecimal digits, the same for the same fact in every audit."""
    return hashlib.sha256("\x1f".join((rule, *subject)).encode()).hexdigest()[:32]


def identify(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    """(id, fingerprint) of each finding, in order.

    The id is short enough to type and unique in this audit. It begins with the fingerprint's digits, so it is the same for the same input.
    """
    taken: set[str] = set()
    named = []
    for finding in findings:
        mark = fingerprint(finding.rule, finding.subject)
        for digits in range(10, len(mark) + 1):
            if (name := f"F-{mark[:digits]}") not in taken:
                break
        else:  # two findings with one subject: a rule that groups badly; both are shown
            twin = 2
            while (name := f"F-{mark}-{twin}") in taken:
                twin += 1
        taken.add(name)
        named.append((name, mark))
    return named


def one_by_one(values: Iterable[Any], convert: Callable[[Any], str]) -> npt.NDArray[np.object_]:
    """``convert`` of each value, called once for each distinct object: the tables share their tuples and dicts."""
    known: dict[int, str] = {}
    out = []
    for value in values:
        key = id(value)
        if (text := known.get(key)) is None:
            text = known[key] = convert(value)
        out.append(text)
    made = np.empty(len(out), dtype=object)
    made[:] = out
    return made


def _path_of_miss(miss: Any) -> str:
    return str(miss["path"]) if isinstance(miss, dict) and miss.get("path") else ""


def _paths(paths: Any) -> str:
    return "+".join(paths) if isinstance(paths, (tuple, list)) else ""


@dataclass(frozen=True, slots=True)
class Group:
    """The connections that show one fact."""

    path: str
    """Id of the documented path or of the near miss; several joined with ``+``; empty where there is none."""
    originator: str
    """Role, or address."""
    responder: str
    port: str
    """Number, name of the range, or empty where the transport has none."""
    protocol: str
    rows: Rows
    """Positions in the connections table, rising."""
    inside: Rows
    """The same rows as positions in the view."""

    @property
    def subject(self) -> tuple[str, ...]:
        return (self.path, self.originator, self.responder, self.port, self.protocol)

    @property
    def service(self) -> str:
        """``8443/tcp``; the transport alone where it has no ports."""
        return f"{self.port}/{self.protocol}" if self.port else self.protocol


def holds(table: pd.DataFrame, column: str, value: str) -> Mask:
    """Where the column has this text; where it has none, it does not hold."""
    same = table[column] == value
    return np.asarray(same.fillna(False), dtype=np.bool_)


class View:
    """The rows of one table that a rule looks at, as plain arrays made once: pandas costs too much per group.

    Parameters: the connections table and a mask over it, shape (n,). Arrays of the view have shape (mask.sum(),).
    """

    def __init__(self, connections: pd.DataFrame, mask: Mask) -> None:
        self.at: Rows = np.flatnonzero(mask)
        self._table = connections
        self._columns: dict[str, npt.NDArray[Any]] = {}

    def __len__(self) -> int:
        return len(self.at)

    def column(self, name: str) -> npt.NDArray[Any]:
        """The column's values in these rows; texts as Python objects, None where there is none."""
        if (made := self._columns.get(name)) is None:
            values = self._table[name].take(self.at)
            numeric = isinstance(values.dtype, np.dtype) and values.dtype.kind in "iufb"
            made = np.asarray(values) if numeric else np.asarray(values.astype(object), dtype=object)
            self._columns[name] = made
        return made

    def _end(self, which: str) -> npt.NDArray[np.object_]:
        roles, addresses = self.column(f"{which}_role"), self.column(f"{which}_ip")
        return np.where(pd.isna(roles) | (roles == ""), addresses, roles)

    @cached_property
    def originator(self) -> npt.NDArray[np.object_]:
        """Role, or the address of an end that has none."""
        return self._end("originator")

    @cached_property
    def responder(self) -> npt.NDArray[np.object_]:
        """Role, or the address of an end that has none."""
        return self._end("responder")

    @cached_property
    def port(self) -> npt.NDArray[np.int64]:
        """Service port; -1 where the transport has none."""
        numbers = pd.to_numeric(pd.Series(self.column("responder_port")))
        return np.asarray(numbers.fillna(-1), dtype=np.int64)

    @cached_property
    def path(self) -> npt.NDArray[np.object_]:
        """Documented paths; where there are none, the near miss."""
        documented = one_by_one(self.column("paths"), _paths)
        missed = one_by_one(self.column("near_miss"), _path_of_miss)
        return np.where(documented != "", documented, missed)

    @cached_property
    def service(self) -> npt.NDArray[np.int64]:
        """Port with the host-port range folded into one number."""
        linux = (self.port >= HOST_PORT_FIRST) & (self.port <= HOST_PORT_LAST)
        windows = (self.port >= WINDOWS_FIRST) & (self.port <= WINDOWS_LAST) & (self.responder == WINDOWS)
        return np.where(linux, HOST_PORT_FIRST, np.where(windows, _WINDOWS_SERVICE, self.port))

    def fold_ports(self, most: int) -> None:
        """Where two ends have more than ``most`` unprivileged ports in this view, these are one service: a range that was moved is one cause."""
        service = self.service.copy()
        high = np.flatnonzero(service >= _UNPRIVILEGED)
        keys = pd.DataFrame({"from": self.originator[high], "to": self.responder[high], "port": service[high]})
        ports = keys.groupby(["from", "to"], sort=False)["port"].transform("nunique").to_numpy()
        service[high[ports > most]] = _MANY_PORTS
        self.service = service

    def groups(self, protocol: npt.NDArray[Any] | None = None) -> Iterator[Group]:
        """The view's rows by subject, in the order of the subjects.

        Parameters: what to call the protocol of each row, shape (len(self),); the transport where nothing is given.
        """
        if not len(self):
            return
        spoken = self.column("transport") if protocol is None else protocol
        keys = pd.DataFrame(
            {
                "path": self.path,
                "originator": self.originator,
                "responder": self.responder,
                "service": self.service,
                "protocol": spoken.astype(object),
            },
        )
        self._fold(keys)
        for key, rows in grouped(keys, ["path", "originator", "responder", "service", "protocol"]):
            path, originator, responder, service, transport = key
            yield Group(path, originator, responder, _service_name(service), transport, self.at[rows], rows)

    def _fold(self, keys: pd.DataFrame) -> None:
        """Make fewer subjects of too many, in place."""
        for which in ("originator", "responder", "service"):
            if len(keys) <= MOST_SUBJECTS or len(keys.drop_duplicates()) <= MOST_SUBJECTS:
                return
            if which == "service":
                keys[which] = np.where(keys[which] < 0, keys[which], _MANY_PORTS)
            else:
                roles = self.column(f"{which}_role")
                keys[which] = np.where(pd.isna(roles) | (roles == ""), MANY_ADDRESSES, keys[which])


def grouped(keys: pd.DataFrame, by: list[str]) -> Iterator[tuple[Any, Rows]]:
    """(key, rising row numbers) of each distinct combination, in the order of the keys."""
    found: dict[Any, Any] = dict(keys.groupby(by, sort=False, observed=True).indices)
    for key in sorted(found):
        yield key, np.sort(np.asarray(found[key], dtype=np.intp))


def _service_name(service: int) -> str:
    if service in (HOST_PORT_FIRST, _WINDOWS_SERVICE):
        return HOST_PORTS if service == HOST_PORT_FIRST else WINDOWS_PORTS
    if service == _MANY_PORTS:
        return MANY_PORTS
    return "" if service < 0 else str(service)


def split_path(path: str) -> str | None:
    """One documented path of a group's: the first of its candidates."""
    return path.split("+", maxsplit=1)[0] or None
