"""The switches of a foundation: which of the declared rows it has, and what it asks of them beyond what the pages say.

A page lists what any foundation may do. One foundation has the internal database or another, silk or NSX-T, NATS with passwords or with
certificates. A policy file says which (``foundation:``). Rules that hold here:

- A switch that is not set changes nothing: every row stands.
- A row that only the other kind of foundation has (``where:``) is left out, so that what it would have explained is undeclared.
- What a foundation asks for replaces what the page documents, and the row says so in its footnote. Its words in reports stay the page's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from auditor.policy.policy import PolicyPath, authentication_text, ports_text

if TYPE_CHECKING:
    from auditor.policy.schema import PathModel, PolicyModel

NATS = {
    "tls_and_password": {"all": ["tls", "basic"]},
    "mutual_tls_and_password": {"all": ["mutual_tls", "basic"]},
    "mutual_tls": "mutual_tls",
}
MYSQL = {"tls_and_password": {"all": ["tls", "mysql_native_password"]}}

PROXY, DATABASE = "mysql_proxy", "external_database"
INTERNAL_STORE, EXTERNAL_STORE = "nfs_server", "blobstore"


class _File(Protocol):
    @property
    def model(self) -> PolicyModel: ...


def foundation_of(files: Sequence[_File]) -> dict[str, Any]:
    """All switches that these files set; later files replace what earlier ones say, and add to lists."""
    found: dict[str, Any] = {}
    for file in files:
        if file.model.foundation is None:
            continue
        for key, value in file.model.foundation.model_dump(exclude={"origin"}, exclude_unset=True).items():
            if isinstance(value, list):
                found[key] = list(dict.fromkeys([*found.get(key, ()), *value]))
            elif isinstance(value, dict):
                found[key] = {**found.get(key, {}), **value}
            elif value is not None:
                found[key] = value
    return found


def in_foundation(
    paths: Iterable[PolicyPath], models: Mapping[str, PathModel], foundation: Mapping[str, Any]
) -> tuple[PolicyPath, ...]:
    """The rows that such a foundation has, with what it asks of them."""
    kept = (path for path in paths if _has(models[path.id], foundation))
    return tuple(_asked(path, foundation) for path in kept) if foundation else tuple(kept)


def _has(model: PathModel, foundation: Mapping[str, Any]) -> bool:
    """Whether such a foundation has the row. A tile that nobody named is taken for one that is not there."""
    where = model.where
    if where is None:
        return True
    if where.tile is not None and where.tile not in foundation.get("tiles", ()):
        return False
    return all(
        wanted is None or foundation.get(name, wanted) == wanted
        for name, wanted in (
            ("networking", where.networking),
            ("database", where.database),
            ("blobstore", where.blobstore),
        )
    )


def _asked(path: PolicyPath, foundation: Mapping[str, Any]) -> PolicyPath:
    path = _placed(path, foundation)
    ports = foundation.get("ports", {}).get(path.id)
    if ports is not None:
        varies, ranges = ports == "varies", () if ports == "varies" else tuple(ports)
        path = _noted(
            replace(path, ports=ranges, varies=varies), f"on {ports_text(ranges) or 'varying ports'} in this foundation"
        )
    wanted = path.authentication
    if path.application == "NATS" and wanted == "basic":
        wanted = NATS.get(foundation.get("nats", ""), wanted)
    elif path.application == "MySQL" and wanted == "mysql_native_password":
        wanted = MYSQL.get(foundation.get("mysql", ""), wanted)
    if path.id in foundation.get("require_tls", ()):
        wanted = with_tls(wanted)
    if wanted == path.authentication:
        return path
    return _noted(replace(path, authentication=wanted), f"this foundation requires {authentication_text(wanted)}")


def _placed(path: PolicyPath, foundation: Mapping[str, Any]) -> PolicyPath:
    """Where the database and the blobstore are."""
    roles = path.resp_roles
    if foundation.get("database") == "external" and PROXY in roles and _only_internal(path):
        roles = tuple(DATABASE if role == PROXY else role for role in roles)
        path = replace(path, resp_component=None, resp_slug=None)
    store = foundation.get("blobstore")
    if store is not None and {INTERNAL_STORE, EXTERNAL_STORE} <= set(roles):
        gone = INTERNAL_STORE if store == "external" else EXTERNAL_STORE
        roles = tuple(role for role in roles if role != gone)
    if roles == path.resp_roles:
        return path
    return _noted(replace(path, resp_roles=roles), f"to {' or '.join(roles)} in this foundation")


def _only_internal(path: PolicyPath) -> bool:
    """Not the internal database's own dealings: those of its clients, by that database's protocol."""
    return path.application == "MySQL" and PROXY not in path.orig_roles


def _noted(path: PolicyPath, says: str) -> PolicyPath:
    return replace(path, footnote="; ".join(each for each in (path.footnote, says) if each))


def with_tls(tree: Any) -> Any:
    """The same, and inside TLS: a choice of which TLS is one leaves TLS."""
    if isinstance(tree, str):
        return (
            tree
            if tree in ("tls", "mutual_tls")
            else "tls"
            if tree in ("none", "signed_url")
            else {"all": ["tls", tree]}
        )
    ((word, parts),) = tree.items()
    if word == "all":
        return tree if any(part in ("tls", "mutual_tls") for part in parts) else {"all": ["tls", *parts]}
    asked: list[Any] = []
    for part in (with_tls(part) for part in parts):
        if part not in asked:
            asked.append(part)
    return asked[0] if len(asked) == 1 else {"any": asked}
