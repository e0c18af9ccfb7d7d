"""Filters: which connections, and which of their columns, to show."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from auditor.errors import ConfigError, did_you_mean
from auditor.model.columns import CONNECTIONS

if TYPE_CHECKING:
    import pandas as pd

    from auditor.model.audit import Audit

UNJUDGED = frozenset(
    {"id", "community_id", "start", "duration", "transport", "conn_state", "history", "missed_bytes", "vantages", "sightings", "tunnel", "translated",
     "application", "tls", "ssh", "mysql", "nats", "http"}
    | {f"{end}_{field}" for end in ("originator", "responder") for field in ("ip", "port", "packets", "bytes", "copies")}
)  # fmt: skip
"""Columns that need no policy and no inventory."""


def fields(text: str | None) -> tuple[str, ...]:
    """Column names from ``a,b.c,d``. Raises ConfigError."""
    if text is None:
        return ()
    known = [column.name for column in CONNECTIONS]
    names = [name.strip().replace(".", "_") for name in text.split(",")]
    for name in names:
        if name not in known:
            raise ConfigError(
                "--fields",
                f"unknown column {name!r}",
                hint=_hint(name, known, "docs/reports.md lists them"),
            )
    return tuple(dict.fromkeys(names))


def _hint(name: str, known: Sequence[str], where: str) -> str:
    """The closest of ``known``, and where all of them are listed."""
    return f"{did_you_mean(name, known, '')} {where}".strip()


def resolve_roles(
    wanted: Filter, policy: Sequence[str] | None, inventory: Sequence[str] | None, release: str | None
) -> Filter:
    """The filter with its roles as the policy names them (an alias stands for all roles behind it).

    Raises ConfigError for a role that neither the policy nor the inventory has: it would match nothing and the result would look clean.
    """
    if not (wanted.from_roles or wanted.to_roles):
        return wanted
    from auditor.policy.inventory import load_inventory
    from auditor.policy.loader import load_policy

    rules = load_policy(policy or (), release=release)
    roles = dict.fromkeys(rules.roles)
    if inventory:
        for _, _, host in load_inventory(inventory, rules).listing():
            roles |= dict.fromkeys(host.roles)

    def resolved(option: str, names: Sequence[str]) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for name in names:
            held = rules.held_by(name)
            if name not in roles and held is None:
                raise ConfigError(
                    option,
                    f"unknown role {name!r}",
                    hint=_hint(name, list(roles), "auditor policy export lists the roles of the policy"),
                )
            found |= dict.fromkeys([name] if held is None else [one.role for one in held])
        return tuple(found)

    return replace(
        wanted,
        from_roles=resolved("--from-role", wanted.from_roles),
        to_roles=resolved("--to-role", wanted.to_roles),
    )


def _applications(names: Sequence[str]) -> tuple[str, ...]:
    if names:
        from auditor.catalogue import discover

        known = [
            "none",
            "unknown",
            "https",
            *(name for one in discover("auditor.inspectors", "INSPECTOR") for name in (one.name, *one.turns_into)),
        ]
        for name in names:
            if name not in known:
                raise ConfigError(
                    "--application",
                    f"unknown application {name!r}",
                    hint=_hint(name, known, f"one of {', '.join(sorted(set(known)))}"),
                )
    return tuple(names)


def _network(text: str) -> Any:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ConfigError(
            "--ip", f"{text!r} is neither an address nor a network", hint="such as 10.0.4.5 or 10.0.4.0/24"
        ) from error


def _ports(text: str) -> range:
    first, dash, last = text.partition("-")
    low, high = (first, last if dash else first)
    if not all(each.isascii() and each.isdigit() and int(each) <= 65_535 for each in (low, high)) or int(low) > int(
        high
    ):
        raise ConfigError("--to-port", f"{text!r} is neither a port nor a range", hint="such as 8889 or 61001-65534")
    return range(int(low), int(high) + 1)


def moment(option: str, text: str | None) -> int | None:
    """A time in nanoseconds, as ``times.moment`` takes it. Raises ConfigError."""
    from auditor.policy import times

    return None if text is None else times.moment(option, text, time.time_ns())


@dataclass(frozen=True, slots=True)
class Filter:
    """Values of one option are alternatives; all options must match; ``negate`` inverts the whole filter."""

    from_roles: tuple[str, ...] = ()
    to_roles: tuple[str, ...] = ()
    to_ports: tuple[range, ...] = ()
    networks: tuple[Any, ...] = ()
    applications: tuple[str, ...] = ()
    dispositions: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    since_ns: int | None = None
    until_ns: int | None = None
    negate: bool = False

    @property
    def needs_policy(self) -> bool:
        """Whether it needs a policy and an inventory."""
        return bool(self.from_roles or self.to_roles or self.dispositions or self.verdicts or self.rules)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that ``mask`` reads."""
        asked = {
            "originator_roles": self.from_roles,
            "responder_roles": self.to_roles,
            "responder_port": self.to_ports,
            "originator_ip": self.networks,
            "responder_ip": self.networks,
            "application": self.applications,
            "disposition": self.dispositions,
            "authentication_verdict": self.verdicts,
            "findings": self.rules,
            "start": self.since_ns is not None or self.until_ns is not None,
            "duration": self.since_ns is not None,
        }
        return tuple(name for name, needed in asked.items() if needed)

    def mask(self, frame: pd.DataFrame, findings: pd.DataFrame | None = None) -> pd.Series[bool]:
        """True for connections that match; ``findings``: those of the same audits, for ``rules``."""
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
        if self.verdicts:
            keep &= frame["authentication_verdict"].isin(self.verdicts)
        if self.rules:
            keep &= self._of_rules(frame, findings)
        if self.since_ns is not None:
            keep &= frame["start"] + (frame["duration"] * 1e9).round().astype("int64") >= self.since_ns
        if self.until_ns is not None:
            keep &= frame["start"] <= self.until_ns
        return ~keep if self.negate else keep

    def _of_rules(self, frame: pd.DataFrame, findings: pd.DataFrame | None) -> pd.Series[bool]:
        """Connections that are part of a finding of these rules; finding ids are unique within an audit."""
        import pandas as pd

        if findings is None or not len(findings):
            return pd.Series(False, index=frame.index)
        found = findings[findings["rule"].isin(self.rules)]
        audits = found["audit"].tolist() if "audit" in found else [0] * len(found)
        wanted = set(zip(audits, found["id"].tolist(), strict=True))
        of = frame["audit"].tolist() if "audit" in frame else [0] * len(frame)
        held = zip(of, frame["findings"].tolist(), strict=True)
        return pd.Series(
            [any((audit, name) in wanted for name in names or ()) for audit, names in held],
            index=frame.index,
            dtype=bool,
        )

    def _inside(self, text: Any) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self.networks)


def _unique(series: pd.Series[Any], test: Callable[[Any], bool]) -> pd.Series[bool]:
    """``test`` of every value, called once per distinct value."""
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
    *,
    verdict: Sequence[str] = (),
    rule: Sequence[str] = (),
    since: str | None = None,
    until: str | None = None,
) -> Filter:
    """The filter that these options make. Raises ConfigError."""
    if verdict:
        from auditor.model.judgement import Verdict

        verdicts = [str(each) for each in Verdict]
        for word in verdict:
            if word not in verdicts:
                raise ConfigError(
                    "--verdict", f"unknown value {word!r}", hint=_hint(word, verdicts, f"one of {', '.join(verdicts)}")
                )
    if rule:
        from auditor.catalogue import discover

        known = [each.name for each in discover("auditor.rules", "RULE")]
        for word in rule:
            if word not in known:
                raise ConfigError(
                    "--rule", f"unknown rule {word!r}", hint=did_you_mean(word, known, "auditor explain lists them")
                )
    words = ("documented", "undeclared", "ambient", "out_of_scope")
    for word in disposition:
        if word not in words:
            raise ConfigError(
                "--disposition", f"unknown value {word!r}", hint=_hint(word, words, f"one of {', '.join(words)}")
            )
    made = Filter(
        tuple(from_role),
        tuple(to_role),
        tuple(map(_ports, to_port)),
        tuple(map(_network, ip)),
        _applications(application),
        tuple(disposition),
        tuple(verdict),
        tuple(rule),
        moment("--since", since),
        moment("--until", until),
    )
    if negate and made == Filter():
        raise ConfigError("--not", "needs a filter to invert", hint="add --ip, --to-port, ...")
    return replace(made, negate=negate)


def apply(audit: Audit, wanted: Filter, columns: Sequence[str]) -> Audit:
    """The audit reduced to these connections and columns."""
    frame = audit.connections
    if wanted != Filter():
        frame = frame[wanted.mask(frame, audit.findings)].reset_index(drop=True)
    if columns:
        # The capture's index stays: it says how many digits the times of a row have.
        frame = frame[[*columns, *(["capture"] if "capture" in frame.columns else [])]]
    return replace(audit, connections=frame)
