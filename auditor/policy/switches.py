"""The switches of a foundation that an audit shows: what ``auditor policy suggest`` drafts under ``foundation:``.

What was seen is no proof of what is asked for. A switch is told only where all connections that could tell it agree, with how many there were;
where they do not, the weaker value is reported, because the stronger would accuse what is seen to be served.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from auditor.model.audit import Audit
from auditor.model.judgement import Disposition, Outcome, Verdict
from auditor.policy.foundation import DATABASE, EXTERNAL_STORE, INTERNAL_STORE, PROXY
from auditor.policy.policy import Policy

SILK = frozenset({"vxlan-between-cells", "silk-daemon-to-silk-controller"})
CONTAINERS = frozenset({"ssh-proxy-to-container", "router-to-container"})

_COLUMNS = ["paths", "application", "responder_role", "tls", "nats"]


@dataclass(frozen=True, slots=True)
class Switch:
    """One switch, its value, and what it was told by."""

    name: str
    value: str
    says: str


def learn(audit: Audit, policy: Policy) -> list[Switch]:
    """The switches that connections on declared paths show, in the order of the schema."""
    frame = audit.connections
    judged = frame["disposition"].isin([Disposition.DOCUMENTED.value, Disposition.AMBIENT.value])
    # What was accused, or refused, is no sample of how the foundation is meant to be.
    wrong = frame["authentication_verdict"].isin([Verdict.VIOLATED.value, Verdict.REJECTED.value])
    rows = frame.loc[judged & ~wrong & (frame["outcome"] != Outcome.ATTEMPT.value), _COLUMNS]
    told: list[Mapping[Any, Any]] = [
        each for each in rows.astype(object).where(rows.notna(), None).to_dict("records") if each["paths"]
    ]
    return [*_networking(told), *_places(told, policy), *_nats(told, policy), *_mysql(told, policy)]


def _on(rows: Iterable[Mapping[Any, Any]], ids: frozenset[str]) -> int:
    return sum(1 for row in rows if not ids.isdisjoint(row["paths"]))


def _spoken(rows: Iterable[Mapping[Any, Any]], policy: Policy, application: str) -> list[Mapping[Any, Any]]:
    """Those on rows of an application that carried something."""
    ids = {path.id for path in policy.all_paths if path.application == application}
    return [row for row in rows if not ids.isdisjoint(row["paths"]) and row["application"] not in ("none", "unknown")]


def _networking(rows: list[Mapping[Any, Any]]) -> Iterator[Switch]:
    silk, containers = _on(rows, SILK), _on(rows, CONTAINERS)
    if bool(silk) != bool(containers):
        value, count = ("silk", silk) if silk else ("external", containers)
        yield Switch("networking", value, f"{count:,} on paths that only such a foundation has")


def _places(rows: list[Mapping[Any, Any]], policy: Policy) -> Iterator[Switch]:
    roles = Counter(row["responder_role"] for row in rows)
    stores = {path.id for path in policy.all_paths if not {INTERNAL_STORE, EXTERNAL_STORE}.isdisjoint(path.resp_roles)}
    kept = Counter(row["responder_role"] for row in rows if not stores.isdisjoint(row["paths"]))
    for name, counts, inside, outside in (
        ("database", roles, PROXY, DATABASE),
        ("blobstore", kept, INTERNAL_STORE, EXTERNAL_STORE),
    ):
        if bool(counts[inside]) != bool(counts[outside]):
            value, role = ("internal", inside) if counts[inside] else ("external", outside)
            yield Switch(name, value, f"{counts[role]:,} to {role}")


def _nats(rows: list[Mapping[Any, Any]], policy: Policy) -> Iterator[Switch]:
    seen = _spoken(rows, policy, "NATS")
    clear = sum(1 for row in seen if not row["tls"])
    if clear:
        yield Switch("nats", "password", f"{clear:,} of {len(seen):,} in the clear")
        return
    infos = [row["nats"] or {} for row in seen]
    if not seen or not any(infos):
        return
    mutual = sum(1 for row, info in zip(seen, infos, strict=True) if info.get("tls_verify") or _shows(row["tls"]))
    users = {info.get("auth_required") for info in infos if "auth_required" in info}
    if mutual < len(seen):
        yield Switch(
            "nats", "tls_and_password", f"{len(seen):,} inside TLS, {mutual:,} of them with client certificates"
        )
    elif users == {False}:
        yield Switch("nats", "mutual_tls", f"{len(seen):,} with client certificates, and INFO does not ask for a user")
    else:
        yield Switch(
            "nats", "mutual_tls_and_password", f"{len(seen):,} with client certificates, and INFO asks for a user"
        )


def _mysql(rows: list[Mapping[Any, Any]], policy: Policy) -> Iterator[Switch]:
    seen = _spoken(rows, policy, "MySQL")
    clear = sum(1 for row in seen if not row["tls"])
    if seen:
        value = "password" if clear else "tls_and_password"
        yield Switch("mysql", value, f"{clear:,} of {len(seen):,} in the clear")


def _shows(tls: Mapping[str, Any] | None) -> bool:
    return (tls or {}).get("client_certificate") in ("sent", "inferred_sent")
