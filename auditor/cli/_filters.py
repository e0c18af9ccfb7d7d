"""Which connections, and which of their columns, somebody wants to see."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from auditor.errors import ConfigError
from auditor.model.columns import CONNECTIONS

if TYPE_CHECKING:
    import pandas as pd

    from auditor.model.audit import Audit

UNJUDGED = frozenset(
    {"id", "community_id", "start", "duration", "transport", "conn_state", "history", "missed_bytes", "vantages", "tunnel",
     "application", "tls", "ssh", "mysql", "nats", "http"}
    | {f"{end}_{field}" for end in ("originator", "responder") for field in ("ip", "port", "packets", "bytes")}
)  # fmt: skip
"""Columns that need no policy and no inventory."""


def fields(text: str | None) -> tuple[str, ...]:
    """Names of columns from ``a,b.c,d``. Raises ConfigError."""
    if text is None:
        return ()
    known = [column.name for column in CONNECTIONS]
    names = [name.strip().replace(".", "_") for name in text.split(",")]
    for name in names:
        if name not in known:
            near = [each for each in known if name and (name in each or each.startswith(name.split("_")[0]))]
            raise ConfigError("--fields", f"there is no column {name!r}", mend=f"such as {', '.join(near or known)}")
    return tuple(dict.fromkeys(names))


def _network(text: str) -> Any:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ConfigError(
            "--ip", f"{text!r} is no address and no network", mend="such as 10.0.4.5 or 10.0.4.0/24"
        ) from error


def _ports(text: str) -> range:
    first, dash, last = text.partition("-")
    low, high = (first, last if dash else first)
    if not all(each.isascii() and each.isdigit() and int(each) <= 65_535 for each in (low, high)) or int(low) > int(
        high
    ):
        raise ConfigError("--to-port", f"{text!r} is no port and no range", mend="such as 8889 or 61001-65534")
    return range(int(low), int(high) + 1)


@dataclass(frozen=True, slots=True)
class Filter:
    """Values of one option are alternatives; options must all hold; ``negate`` turns the whole around."""

    from_roles: tuple[str, ...] = ()
    to_roles: tuple[str, ...] = ()
    to_ports: tuple[range, ...] = ()
    networks: tuple[Any, ...] = ()
    applications: tuple[str, ...] = ()
    dispositions: tuple[str, ...] = ()
    negate: bool = False

    @property
    def needs_policy(self) -> bool:
        """It asks for what only a policy and an inventory can say."""
        return bool(self.from_roles or self.to_roles or self.dispositions)

    def mask(self, frame: pd.DataFrame) -> pd.Series[bool]:
        """True for the connections that match."""
        import pandas as pd

        keep = pd.Series(True, index=frame.index)
        for end, roles in (("originator", self.from_roles), ("responder", self.to_roles)):
            if roles:
                keep &= _unique(frame[f"{end}_roles"], lambda held, roles=roles: bool(set(roles) & set(held or ())))  # type: ignore[misc]
        if self.to_ports:
            keep &= _unique(frame["responder_port"], lambda port: any(port in each for each in self.to_ports))
        if self.networks:
            keep &= _unique(frame["originator_ip"], self._inside) | _unique(frame["responder_ip"], self._inside)
        if self.applications:
            keep &= frame["application"].isin(self.applications)
        if self.dispositions:
            keep &= frame["disposition"].isin(self.dispositions)
        return ~keep if self.negate else keep

    def _inside(self, text: Any) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self.networks)


def _unique(series: pd.Series[Any], test: Callable[[Any], bool]) -> pd.Series[bool]:
    """``test`` of every value, asked once for each different one."""
    import pandas as pd

    known: dict[Any, bool] = {}
    values = []
    for value in series.tolist():
        found = known.get(value) if value is not pd.NA else False
        if found is None:
            found = known[value] = test(value)
        values.append(found)
    return pd.Series(values, index=series.index, dtype=bool)


def make_filter(
    from_role: Sequence[str],
    to_role: Sequence[str],
    to_port: Sequence[str],
    ip: Sequence[str],
    application: Sequence[str],
    disposition: Sequence[str],
    negate: bool,
) -> Filter:
    """The filter that these options make. Raises ConfigError."""
    words = ("documented", "undeclared", "ambient", "out_of_scope")
    for word in disposition:
        if word not in words:
            raise ConfigError("--disposition", f"there is no {word!r}", mend=f"one of {', '.join(words)}")
    made = Filter(
        tuple(from_role),
        tuple(to_role),
        tuple(map(_ports, to_port)),
        tuple(map(_network, ip)),
        tuple(application),
        tuple(disposition),
    )
    if negate and made == Filter():
        raise ConfigError("--not", "turns a filter around, and there is none", mend="add --ip, --to-port, ...")
    return replace(made, negate=negate)


def apply(audit: Audit, wanted: Filter, columns: Sequence[str]) -> Audit:
    """The audit with only those connections, and only those columns of them."""
    frame = audit.connections
    if wanted != Filter():
        frame = frame[wanted.mask(frame)].reset_index(drop=True)
    if columns:
        # The capture's index stays: it says how many digits the times of a row have.
        frame = frame[[*columns, *(["capture"] if "capture" in frame.columns else [])]]
    return replace(audit, connections=frame)
