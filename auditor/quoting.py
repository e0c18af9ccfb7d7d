"""ICMP errors belong to the connections that they quote.

A router that refuses a packet speaks about that packet's connection, and is no party to anything: what it says becomes evidence there, with the router
named, and the errors themselves are no connection that anybody opened (RFC 792; RFC 4443 section 3; RFC 1122 section 3.2.2).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.model.connections import ConnectionTable
from auditor.model.facts import Facts
from auditor.model.quoted import ICMP_ERROR
from auditor.policy.addresses import to_text

MOST_FRAMES = 5
MOST_SAID = 8
"""So many different errors of one connection are reported."""
_NOTHING: MappingProxyType[str, Any] = MappingProxyType({})
"""Shared, so that all connections of which nothing else is known are alike."""

_UNREACHABLE = {
    0: "network unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    3: "port unreachable",
    4: "fragmentation needed",
    5: "source route failed",
    6: "network unknown",
    7: "host unknown",
    9: "network administratively prohibited",
    10: "host administratively prohibited",
    13: "communication administratively prohibited",
}
_UNREACHABLE6 = {
    0: "no route",
    1: "communication administratively prohibited",
    2: "beyond the scope of the source address",
    3: "address unreachable",
    4: "port unreachable",
    5: "source address failed the policy",
    6: "route rejected",
}
_OTHERS = {
    (1, 4): "source quench",
    (1, 5): "redirect",
    (1, 11): "time exceeded",
    (1, 12): "parameter problem",
    (58, 2): "packet too big",
    (58, 3): "time exceeded",
    (58, 4): "parameter problem",
}


_Key = tuple[int, int, frozenset[tuple[int, int]]]
"""Protocol, whether it is inside a tunnel, and both ends."""


def said(quote: Any) -> str:
    """``fragmentation needed (MTU 1400), by 10.0.8.1``."""
    icmp, kind, code = int(quote["icmp"]), int(quote["kind"]), int(quote["code"])
    if (icmp, kind) in ((1, 3), (58, 1)):
        what = (_UNREACHABLE if icmp == 1 else _UNREACHABLE6).get(code, f"unreachable, code {code}")
    else:
        what = _OTHERS.get((icmp, kind), f"ICMP type {kind}")
    if (icmp, kind, code) == (1, 3, 4) or (icmp, kind) == (58, 2):
        what += f" (MTU {int(quote['mtu'])})" if quote["mtu"] else ""
    return f"{what}, by {to_text(_address(quote, 'router'))}"


def _address(quote: Any, which: str) -> int:
    return (int(quote[f"{which}_hi"]) << 64) | int(quote[f"{which}_lo"])


def about_others(table: ConnectionTable, quotes: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows are ICMP errors alone: they speak of other connections."""
    out = np.zeros(len(table), np.bool_)
    if not len(quotes):
        return out
    errors: dict[tuple[int, frozenset[int]], int] = defaultdict(int)
    for quote in quotes:
        errors[int(quote["inside"]), frozenset((_address(quote, "router"), _address(quote, "host")))] += int(
            quote["count"]
        )
    for row in np.flatnonzero((table.proto == 1) | (table.proto == 58)).tolist():
        ends = frozenset((table.addresses[table.orig_h[row]], table.addresses[table.resp_h[row]]))
        # Copies of errors are counted among them, and not among the packets.
        out[row] = errors.get((int(table.tunnel[row] != 0), ends), 0) >= int(
            table.orig_pkts[row] + table.resp_pkts[row]
        )
    return out


def told(table: ConnectionTable, quotes: NDArray[Any]) -> ConnectionTable:
    """The table with what errors say of each connection as evidence there."""
    if not len(quotes):
        return table
    by_key: dict[_Key, list[Any]] = defaultdict(list)
    for quote in quotes:
        ends = frozenset(
            {(_address(quote, "src"), int(quote["src_port"])), (_address(quote, "dst"), int(quote["dst_port"]))}
        )
        by_key[int(quote["proto"]), int(quote["inside"]), ends].append(quote)
    ports = {port for _, _, ends in by_key for _, port in ends}
    some = np.isin(np.maximum(table.orig_p, 0), list(ports)) & np.isin(np.maximum(table.resp_p, 0), list(ports))
    found: dict[int, list[Any]] = defaultdict(list)
    rows: dict[_Key, list[int]] = defaultdict(list)
    for row in np.flatnonzero(some).tolist():
        one = table.addresses[table.orig_h[row]], max(int(table.orig_p[row]), 0)
        other = table.addresses[table.resp_h[row]], max(int(table.resp_p[row]), 0)
        key = int(table.proto[row]), int(table.tunnel[row] != 0), frozenset((one, other))
        if key in by_key:
            rows[key].append(row)
    for key, same in rows.items():
        for quote in by_key[key]:
            # A pair of ports may be used again: the latest that had begun by then.
            begun = [row for row in same if table.first_ns[row] <= quote["ts_ns"]] or same
            found[begun[-1]].append(quote)
    if not found:
        return table
    facts = list(table.facts)
    for row, mine in found.items():
        says = tuple(dict.fromkeys(said(quote) for quote in mine))[:MOST_SAID]
        frames = tuple(sorted({int(quote["frame"]) for quote in mine}))[:MOST_FRAMES]
        known = facts[row]
        shown = ({ICMP_ERROR: frames}, None)
        if known is None:
            facts[row] = Facts(_NOTHING, {ICMP_ERROR: says}, (shown,))
        else:
            facts[row] = Facts(known.shared, {**known.own, ICMP_ERROR: says}, (*known.marks, shown), known.certainties)
    return replace(table, facts=tuple(facts))
