"""The notification: a digest of what changed, never with payload from the wire.

A digest has a key, made only of its content (no time): a digest that is sent again after a failure has the same one, so that a receiver (or a
person) knows it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from auditor.errors import AuditorError, ConfigError, MissingToolError
from auditor.jobs.config import NotifySection
from auditor.model.roles import Severity
from auditor.policy.inventory import time_text
from auditor.wire.text import clip, escape

LINES = 25
"""Up to so many changes of a kind are listed one by one."""
_HEADS = {
    "new": "New findings",
    "gone": "Findings that are gone",
    "waiver": "Waivers that do not apply",
    "unwaived": "Findings that are no longer waived",
    "incomplete": "Incomplete",
    "aside": "Files set aside",
    "silent": "Sources that deliver nothing",
    "clock": "Times that are not trusted",
    "store": "Damage to the store",
}

_WITH = {"unwaived": "waiver"}
"""Changes that are also sent to receivers of another kind."""


class NotToldError(AuditorError):
    """A notification could not be sent."""


def wanted(section: NotifySection, changes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Those of the changes that this section wants."""
    least = Severity[section.severity.upper()]
    return [
        dict(each)
        for each in changes
        if _WITH.get(each["change"], each["change"]) in section.on
        and Severity[str(each.get("severity", section.severity)).upper()] >= least
    ]


def digest_of(
    name: str,
    section: NotifySection,
    changes: Sequence[Mapping[str, Any]],
    audits: Sequence[int],
    now_ns: int,
    late_ns: int | None = None,
) -> dict[str, Any] | None:
    """Title, body, key and kind of the changes that this section asks for; None: there are none. ``late_ns``: since when it could not be sent."""
    some = wanted(section, changes)
    if not some:
        return None
    marks = sorted(f"{each['change']}\x1f{each.get('fingerprint') or each['title']}" for each in some)
    about = str(audits[0] if audits else None) if len(audits) < 2 else ",".join(map(str, audits))
    key = hashlib.sha256("\x1e".join([name, about, *marks]).encode()).hexdigest()[:32]
    counts = {kind: sum(each["change"] == kind for each in some) for kind in _HEADS}
    words = {
        "new": "new",
        "gone": "gone",
        "waiver": "waivers that do not apply",
        "unwaived": "no longer waived",
        "incomplete": "incomplete",
        "aside": "files set aside",
        "silent": "sources silent",
        "clock": "times not trusted",
        "store": "damaged",
    }
    told = ", ".join(f"{count} {words[kind]}" for kind, count in counts.items() if count)
    lines = []
    for kind, head in _HEADS.items():
        found = sorted((each for each in some if each["change"] == kind), key=_rank)
        if not found:
            continue
        lines += ["", f"{head}: {len(found)}"]
        for each in found[:LINES]:
            grade = f"{str(each['severity']).upper()} {each['rule']}: " if each.get("rule") else ""
            place = f" [{each['path']}]" if each.get("path") else ""
            lines.append(f"- {grade}{clip(escape(str(each['title'])), 300)}{escape(place)}")
        if len(found) > LINES:
            lines.append(f"- and {len(found) - LINES} more")
    span = f"audits {audits[0]} to {audits[-1]}, " if len(audits) > 1 else f"audit {audits[0]}, " if audits else ""
    if late_ns is not None:
        lines += ["", f"Delivery is late: the oldest item is from {_moment(late_ns)}."]
    foot = [
        "",
        f"{span}{_moment(now_ns)}; auditor history diff shows the rest",
        f"dedupe-key: {key}",
    ]
    worst = min((_rank(each) for each in some), default=0)
    bad = counts["new"] and worst <= -int(Severity.HIGH)
    kind = "failure" if bad else "success" if {each["change"] for each in some} == {"gone"} else "warning"
    return {
        "title": f"[{name}] Diego flow audit: {told}",
        "body": "\n".join([*lines[1:], *foot]),
        "key": key,
        "kind": kind,
    }


def _moment(ns: int) -> str:
    return time_text(ns // 1_000_000_000 * 1_000_000_000)


def _rank(change: Mapping[str, Any]) -> int:
    return -int(Severity[str(change["severity"]).upper()]) if change.get("severity") else 0


def address_of(section: NotifySection, environment: Mapping[str, str]) -> str:
    """The address; it may hold a password, so it goes nowhere else. Raises ConfigError."""
    from pathlib import Path

    if section.url is not None:
        return section.url
    if section.url_env is not None:
        found = environment.get(section.url_env, "").strip()
        if not found:
            raise ConfigError(f"notify {section.name}", f"{section.url_env} is not in the environment")
        return found
    try:
        found = Path(str(section.url_file)).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"notify {section.name}", f"{section.url_file} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    if not found:
        raise ConfigError(f"notify {section.name}", f"{section.url_file} is empty")
    return found


def tell(section: NotifySection, digest: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    """Send a digest. Raises NotToldError, ConfigError, MissingToolError; none of them names the address."""
    try:
        import apprise
    except ImportError:
        raise MissingToolError("notifications need apprise (pip install 'diego-flow-auditor[run]')") from None
    import logging
    import socket

    address = address_of(section, environment)
    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its message may contain the address
    sender = apprise.Apprise()
    if not sender.add(address):
        raise ConfigError(
            f"notify {section.name}",
            "apprise does not know this kind of address",
            hint="see apprise's list of services",
        )
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(section.timeout / 1e9)
    try:
        done = sender.notify(
            title=digest["title"],
            body=digest["body"],
            notify_type=digest["kind"],
            body_format=apprise.NotifyFormat.TEXT,
        )
    except Exception as error:  # each service has its own errors; their messages may contain the address
        raise NotToldError(f"notify {section.name}: {type(error).__name__}") from None
    finally:
        socket.setdefaulttimeout(before)
    if not done:
        raise NotToldError(f"notify {section.name}: the receiver refused it")
