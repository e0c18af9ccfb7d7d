"""The content of text reports, in order, before layout.

The first sentence answers two questions that must not be mixed: is it clean (nothing at or above the level that counts), and is it complete
(everything given was seen and decided)? A clean result that is not complete must not look clean. Where roles were inferred, that
comes first, because every other statement depends on it.

Texts here are raw; the formats escape them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from auditor.incidents.again import Next, candidates, next_of
from auditor.model.audit import Audit
from auditor.model.judgement import Disposition, Verdict
from auditor.model.roles import Severity
from auditor.policy._factors import UNREAD_LOGINS
from auditor.policy.times import window_text
from auditor.report._causes import cause_of
from auditor.report._columns import int_parts, rfc3339, row_digits
from auditor.report._text import clip
from auditor.units import size
from auditor.wire.text import known_as, many

INSTANCE = 48
"""A longer name of a VM is cut: ``group/`` and a UUID fit."""

SHOWN_OF_A_RULE = 5
"""At most this many findings of a rule below high are shown; the machine-readable formats have all."""

LINE = (
    "start",
    "duration",
    "transport",
    "originator_ip",
    "originator_port",
    "responder_ip",
    "responder_port",
    "application",
    "conn_state",
    "originator_bytes",
    "responder_bytes",
)
"""Columns of a connection that people see where they choose none."""

_REASONS = {
    "damaged_captures": "damaged captures",
    "limited_captures": "captures read in part, because a limit was reached",
    "unsupported_captures": "captures with unsupported content",
    "no_connection_in_scope": "connections, none of them in scope",
    "dropped_packets": "packets dropped while capturing",
    "nothing_decided": "documented connections, all captured with their opening only",
    "ipsec": "IPsec, which hides its content",
    "contradicting_packets": "undecided connections with packets that contradict each other (a single one makes an audit incomplete)",
    "cut_packets": "undecided connections with packets that were cut short (a single one makes an audit incomplete)",
    "translated_not_compared": "connections on two sides of a NAT whose streams were not compared to their end",
    "first_bytes_given_up": "connections whose first bytes were dropped for lack of memory",
}
"""Reasons that are not about the connections that could not be decided."""


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)  # noqa: PLR0124


def rows(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Rows as dicts with None for what is missing; for the few rows that people read."""
    names = [str(name) for name in frame.columns]
    for values in zip(*(frame[name].tolist() for name in names), strict=True):
        yield {name: None if _missing(value) else value for name, value in zip(names, values, strict=True)}


def severity_counts(audit: Audit) -> dict[str, int]:
    """Number of unwaived findings of each severity, worst first."""
    counts = dict.fromkeys((severity.word for severity in sorted(Severity, reverse=True)), 0)
    if len(audit.findings):
        open_ = audit.findings[audit.findings["waived"].isna()] if "waived" in audit.findings else audit.findings
        for word, count in open_["severity"].astype(str).value_counts(sort=False).items():
            counts[str(word)] = int(count)
    return counts


def level(audit: Audit) -> Severity:
    """From which severity on a finding makes the result unclean."""
    word = str((audit.info.get("options") or {}).get("fail_on") or "medium")
    return Severity[word.upper()] if word.upper() in Severity.__members__ else Severity.MEDIUM


def clean(audit: Audit) -> bool:
    """No finding at or above ``level``."""
    counts = severity_counts(audit)
    return not any(counts[severity.word] for severity in Severity if severity >= level(audit))


def complete(audit: Audit) -> bool:
    """Whether all that was given was seen and decided, by the audit's own statement."""
    return bool((audit.summary.get("sufficiency") or {}).get("complete", True))


@dataclass(frozen=True, slots=True)
class Heading:
    """The first line."""

    inferred: str
    """Empty where every role came from an inventory."""
    verdict: str
    """``CLEAN and COMPLETE``, ``NOT CLEAN, complete``, ..."""
    good: bool
    says: str


def heading(audit: Audit) -> Heading:
    """The summary line."""
    source = audit.summary.get("inventory")
    inferred = {
        "inferred": "ROLES INFERRED, no inventory was given: the roles below are a guess from the traffic.",
        "mixed": "ROLES PARTLY INFERRED: a part of the inventory is a guess.",
    }.get(str(source), "")
    if inferred and source == "inferred" and audit.info.get("inventories"):
        inferred = (
            "ROLES INFERRED: the inventory is a draft; check it, and remove 'origin: inferred' where it is right."
        )
    is_clean, is_complete = clean(audit), complete(audit)
    verdict = {
        (True, True): "CLEAN and COMPLETE",
        (True, False): "CLEAN SO FAR, but INCOMPLETE",
        (False, True): "NOT CLEAN (complete)",
        (False, False): "NOT CLEAN and INCOMPLETE",
    }[is_clean, is_complete]
    if is_clean and expired_waivers(audit):
        verdict = f"NOT CLEAN, {many(len(expired_waivers(audit)), 'waiver')} expired"
        is_clean = False
    if "no_connection_in_scope" in ((audit.summary.get("sufficiency") or {}).get("reasons") or {}):
        verdict = f"NOTHING AUDITED ({_nothing(audit)})"
    if window(audit):
        verdict = f"{verdict}, {window(audit)} only"
    counts = [f"{count:,} {word}" for word, count in severity_counts(audit).items() if count]
    total = sum(severity_counts(audit).values())
    waived = len(audit.findings) - total
    fresh = "new " if (audit.info.get("options") or {}).get("new_only") else ""
    found = f"{', '.join(counts)} {fresh}{'finding' if total == 1 else 'findings'}" if total else f"no {fresh}findings"
    if waived:
        found += f" and {waived:,} waived"
    continuing = int((audit.findings["status"] == "continuing").sum()) if len(audit.findings) else 0
    if continuing:
        found += f", {continuing:,} of them continuing"
    says = f"{found} in {many(int(audit.summary.get('connections', len(audit.connections))), 'connection')}."
    return Heading(inferred, verdict, is_clean and is_complete, says)


def window(audit: Audit) -> str:
    """``from ... to ...``, where only a part of the time was asked for; empty: the whole time."""
    return window_text(audit.info.get("window"))


def _nothing(audit: Audit) -> str:
    """Why no connection was audited."""
    options = audit.info.get("options") or {}
    then = " in that time" if {"since_ns", "until_ns"} & set(options) else ""
    if not len(audit.connections):
        return f"no connection{then}"
    if audit.info.get("inventories"):
        return f"no connection{then} has an end that the inventory knows as Diego's"
    return f"no connection{then} has an end that looks like a Diego VM's; add --inventory FILE"


def reasons(audit: Audit) -> list[str]:
    """Why the audit is incomplete, a line each."""
    sufficiency = audit.summary.get("sufficiency") or {}
    found = []
    for word, value in (sufficiency.get("reasons") or {}).items():
        if word == "no_connection_in_scope" and not value:
            continue  # there is no connection at all, which the first line says
        name = _REASONS.get(str(word), f"undecided, {str(word).replace('_', ' ')}")
        found.append(f"{name}: {value:,}")
    percent = sufficiency.get("undecided_percent")
    if percent:
        found.append(f"{percent:.1f} % of the judged connections are undecided")
    return found


def authentication(audit: Audit) -> str:
    """How many connections have each verdict, and of how many that holds only as far as they were read."""
    verdicts, unread = verdict_words(audit.summary.get("verdicts")), unread_logins(audit)
    return f"{verdicts}; {unread}" if verdicts and unread else verdicts


def unread_logins(audit: Audit) -> str:
    """Of how many connections that count as authenticated later logins were not looked for; empty: of none."""
    if "authentication_factors" not in audit.connections:
        return ""
    passed = audit.connections["authentication_verdict"].isin((Verdict.VERIFIED.value, Verdict.INFERRED.value))
    factors = audit.connections["authentication_factors"].to_numpy(dtype=object)[passed.to_numpy(bool)].tolist()
    # Connections that are judged alike share what is said of them.
    told: dict[int, bool] = {}
    count = 0
    for each in factors:
        found = told.get(id(each))
        if found is None:
            found = told[id(each)] = any(UNREAD_LOGINS in str(factor["says"]) for factor in each or ())
        count += found
    return f"of {many(count, 'authenticated connection')} {UNREAD_LOGINS}" if count else ""


def dispositions(audit: Audit) -> str:
    """How many connections there are of each disposition."""
    return ", ".join(
        f"{int(audit.summary.get(word.value, 0)):,} {word.value.replace('_', ' ')}" for word in Disposition
    )


def verdict_words(counts: dict[str, int] | None) -> str:
    """``3 verified, 1 violated``: worst first, only those that occur."""
    counts = counts or {}
    order = [*(verdict.value for verdict in Verdict), *sorted(set(counts) - {v.value for v in Verdict})]
    return ", ".join(f"{counts[word]:,} {word.replace('_', ' ')}" for word in order if counts.get(word))


def capture_lines(audit: Audit) -> tuple[str, list[tuple[str, list[str]]]]:
    """One line over all captures, and for each that has problems its name and what they are."""
    frame = audit.captures
    if not len(frame):
        return "no captures", []
    packets, total = int(int_parts(frame["packets"])[0].sum()), int(int_parts(frame["bytes"])[0].sum())
    ends = []
    for name, pick in (("first_packet", min), ("last_packet", max)):
        values, missing = int_parts(frame[name])
        seen = values[~missing]
        if seen.size:
            best = pd.Series([pick(seen.tolist())], dtype="int64")
            ends.append(rfc3339(*int_parts(best), int(row_digits(audit, "captures").max()))[0].as_py())
    span = f", {ends[0]} to {ends[1]}" if len(ends) == 2 else ""
    line = f"{many(len(frame), 'capture')}, {many(packets, 'packet')}, {size(total)}{span}"
    if window(audit):
        line += f"; connections {window(audit)} were audited, nothing outside this time"
    troubled = []
    for row in rows(frame):
        says = [_problem(problem) for problem in row["problems"] or ()]
        if row["dropped"]:
            says.append(f"{many(int(row['dropped']), 'packet')} dropped while capturing")
        if says:
            troubled.append((str(row["path"]), says))
    return line, troubled


def _problem(problem: dict[str, Any]) -> str:
    place = "".join(
        f", {where} {problem[key]}"
        for key, where in (("frame", "after frame"), ("offset", "at byte"))
        if problem.get(key) is not None
    )
    kind = problem.get("kind", "problem")
    return f"{'' if kind == 'unreadable' else f'{kind}: '}{problem.get('says', '')}{place}"


@dataclass(frozen=True, slots=True)
class Told:
    """One finding, as it is reported."""

    id: str
    title: str
    detail: str
    """What was seen, in full: which certificate, which version, which end."""
    paths: str
    """All that it may be about: ``auctioneer-to-bbs or ssh-proxy-to-bbs``."""
    count: int
    confidence: str | None
    near_miss: str
    example: str
    """One connection that shows it, with its frames."""
    waived: str
    remediation: str
    """Empty where the whole group has one."""
    commands: tuple[str, ...]
    """What shows more of it."""
    consequences: tuple[str, ...]
    """What it led to on the same connections, a line each."""


@dataclass(frozen=True, slots=True)
class Group:
    """All findings of a rule and severity that are no consequence of others."""

    rule: str
    severity: str
    findings: int
    connections: int
    told: tuple[Told, ...]
    remediation: str
    """The fix for all of them; empty where each has its own."""


def _end(row: dict[str, Any], which: str) -> str:
    address = str(row.get(f"{which}_ip"))
    who = known_as(address, row.get(f"{which}_instance"), row.get(f"{which}_role"))
    port = row.get(f"{which}_port")
    if port is not None:
        address = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return f"{address} ({clip(who, INSTANCE)})" if who else address


def _frames(audit: Audit, evidence: Any, row: dict[str, Any]) -> str:
    """``cell.pcap, frames 12, 13``: from the finding's evidence, else the connection's first frame; the only capture goes without saying."""
    pairs = [tuple(pair) for each in evidence or () for pair in each.get("frames") or ()]
    if not pairs and row.get("first_frame") is not None and row.get("capture") is not None:
        pairs = [(int(row["capture"]), int(row["first_frame"]))]
    if not pairs:
        return ""
    capture = pairs[0][0]
    numbers = sorted({int(frame) for index, frame in pairs if index == capture})
    name = str(audit.captures["path"].iloc[capture]) if 0 <= capture < len(audit.captures) else f"capture {capture}"
    shown = ", ".join(str(number) for number in numbers[:4]) + (", …" if len(numbers) > 4 else "")
    place = "" if len(audit.captures) == 1 else f"{name}, "
    return f"{place}{'frame' if len(numbers) == 1 else 'frames'} {shown}"


def _tell(
    audit: Audit,
    finding: dict[str, Any],
    example: dict[str, Any] | None,
    then: Next,
    *,
    alike: bool,
    led_to: Sequence[dict[str, Any]],
) -> Told:
    row = example or {}
    near = row.get("near_miss") or {}
    shown = ""
    if example:
        words = [
            f"{_end(row, 'originator')} to {_end(row, 'responder')}",
            f"{row.get('transport')} {row.get('application')}",
        ]
        frames = _frames(audit, finding.get("evidence"), row)
        shown = ", ".join([" ".join(words), *([frames] if frames else [])])
    waived = finding.get("waived") or {}
    return Told(
        id=str(finding["id"]),
        title=str(finding.get("title") or ""),
        detail=str(finding.get("detail") or ""),
        paths=" or ".join(candidates(finding, example)),
        count=int(finding.get("count") or 0),
        confidence=finding.get("confidence"),
        near_miss=f"{near.get('path')}, differs in {near.get('differs')}: {near.get('says')}" if near else "",
        example=shown,
        waived=f"waived until {waived.get('until')} by {waived.get('owner')}: {waived.get('reason')}" if waived else "",
        remediation="" if alike else str(finding.get("remediation") or ""),
        commands=then.commands(str(finding["id"])),
        consequences=tuple(f"{each['id']} {each['rule']} ({each['severity']}): {each['title']}" for each in led_to),
    )


def shown(severity: int, most: int) -> int | None:
    """How many findings of a rule are shown: critical and high ones are never cut."""
    return None if severity >= Severity.HIGH else most


Rank = tuple[bool, int, int]
"""Whether it is waived, how many pairs of machines show it, and on how many connections: the lower, the more it stands out."""


def news(audit: Audit) -> dict[str, Rank]:
    """By id of a finding. What one pair of machines does once stands out; what all of them do all the time is the configuration of the foundation."""
    findings = audit.findings
    if not len(findings):
        return {}
    pairs = pd.Series(0, index=findings.index)
    if {"id", "originator_ip", "responder_ip"} <= set(audit.connections.columns):
        shown = findings["connections"].explode().dropna().astype(str)
        of = audit.connections.loc[audit.connections["id"].isin(set(shown)), ["id", "originator_ip", "responder_ip"]]
        pair_of = pd.Series((of["originator_ip"].astype(str) + " " + of["responder_ip"].astype(str)).to_numpy(), index=of["id"].astype(str))  # fmt: skip
        pair_of = pair_of[~pair_of.index.duplicated()]
        pairs = shown.map(pair_of).groupby(level=0).nunique().reindex(findings.index, fill_value=0)
    waived = findings["waived"].notna() if "waived" in findings else pd.Series(False, index=findings.index)
    return {
        str(name): (bool(answered), int(breadth), int(count or 0))
        for name, answered, breadth, count in zip(findings["id"], waived, pairs, findings["count"], strict=True)
    }


def by_news(audit: Audit) -> list[tuple[int, str, list[dict[str, Any]]]]:
    """(severity, rule, its findings), worst first; of one severity those first that are news, and so within a rule."""
    rank = news(audit)
    by: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for finding in rows(audit.findings):
        key = int(Severity[str(finding["severity"]).upper()]), str(finding["rule"])
        by.setdefault(key, []).append(finding)
    for found in by.values():
        found.sort(key=lambda finding: rank[str(finding["id"])])
    order = sorted(by, key=lambda key: (-key[0], rank[str(by[key][0]["id"])], key[1]))
    return [(*key, by[key]) for key in order]


def by_cause(audit: Audit) -> tuple[list[tuple[int, str, list[dict[str, Any]]]], dict[str, list[dict[str, Any]]]]:
    """``by_news`` without consequences of others; and the consequences, by the id of their cause."""
    ordered = by_news(audit)
    cause = cause_of([finding for _, _, found in ordered for finding in found])
    led_to: dict[str, list[dict[str, Any]]] = {}
    heads = []
    for severity, rule, found in ordered:
        for finding in found:
            if str(finding["id"]) in cause:
                led_to.setdefault(cause[str(finding["id"])], []).append(finding)
        kept = [finding for finding in found if str(finding["id"]) not in cause]
        if kept:
            heads.append((severity, rule, kept))
    return heads, led_to


def groups(audit: Audit) -> list[Group]:
    """The findings by severity, worst first, then by how much they are news."""
    ordered, led_to = by_cause(audit)
    by = {(-severity, rule): found for severity, rule, found in ordered}
    told = {key: found[: shown(-key[0], SHOWN_OF_A_RULE)] for key, found in by.items()}
    wanted = {finding["connections"][0] for found in told.values() for finding in found if finding["connections"]}
    examples: dict[str, dict[str, Any]] = {}
    if wanted and "id" in audit.connections:
        examples = {row["id"]: row for row in rows(audit.connections[audit.connections["id"].isin(wanted)])}
    result = []
    then = next_of(audit)
    for key, found in by.items():
        alike = len({finding.get("remediation") for finding in told[key]}) == 1
        result.append(
            Group(
                rule=key[1],
                severity=Severity(-key[0]).word,
                findings=len(found),
                connections=sum(int(finding.get("count") or 0) for finding in found),
                told=tuple(
                    _tell(
                        audit,
                        finding,
                        examples.get(finding["connections"][0]) if finding["connections"] else None,
                        then,
                        alike=alike,
                        led_to=led_to.get(str(finding["id"]), ()),
                    )
                    for finding in told[key]
                ),
                remediation=str(found[0].get("remediation") or "") if alike else "",
            )
        )
    return result


def expired_waivers(audit: Audit) -> list[dict[str, Any]]:
    """The waivers that have expired."""
    return list(((audit.info.get("options") or {}).get("waivers") or {}).get("expired") or ())


def covered(audit: Audit) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    """The documented paths, seen or not; the ambient ones that were seen or tried; and how many ambient ones there are."""
    documented: list[dict[str, Any]] = []
    ambient: list[dict[str, Any]] = []
    for row in rows(audit.coverage):
        row["attempts"] = int(row.get("attempts") or 0)
        row["connections"] = int(row["connections"] or 0)
        (ambient if row.get("disposition") == "ambient" else documented).append(row)
    return documented, [row for row in ambient if row["connections"] or row["attempts"]], len(ambient)


def seen_words(row: dict[str, Any]) -> str:
    """What was seen on a path: ``3 verified, 1 violated``, ``2 attempts``; ``not seen``."""
    told = [verdict_words(row["verdicts"])] if row["connections"] else []
    if row["attempts"]:
        told.append(many(row["attempts"], "attempt"))
    return ", ".join(told) or "not seen"


def explained(audit: Audit) -> list[str]:
    """One line for each shipped policy that would explain undeclared connections."""
    frame = audit.connections
    if "sibling" not in frame or "disposition" not in frame:
        return []
    names = frame.loc[
        (frame["disposition"] == Disposition.UNDECLARED.value) & frame["sibling"].notna(), "sibling"
    ].astype(str)
    counts = names.value_counts()
    return [
        f"{many(int(counts[name]), 'undeclared connection')} would be explained by {name}: add --policy {name}"
        for name in sorted(counts.index)
        if counts[name]
    ]


MOST_WARNINGS = 20


def warnings(audit: Audit) -> list[str]:
    """Warnings about the inventory and the policy, and what could not be done: groups that no policy knows, keys that do not decrypt."""
    told = [str(each) for each in audit.info.get("warnings") or ()]
    more = len(told) - MOST_WARNINGS
    return [*told[:MOST_WARNINGS], *([f"and {more:,} more (--format json has all)"] if more > 0 else [])]


def _policies(sources: Sequence[dict[str, Any]]) -> str:
    """``tas 2.7-10 (tas-diego and 11 siblings), mine 1``: the policies of a profile follow it."""

    def named(each: dict[str, Any]) -> str:
        return f"{each.get('name')} {each.get('version') or ''}".strip()

    told = []
    for each in sources:
        if each.get("profile"):
            continue
        members = [str(one.get("name")) for one in sources if one.get("profile") == each.get("name")]
        brought = f" ({members[0]} and {many(len(members) - 1, 'sibling')})" if members else ""
        told.append(named(each) + brought)
    return ", ".join(told)


def provenance(audit: Audit) -> str:
    """Which policies, inventories and version it was."""
    policies = _policies(audit.info.get("policies") or ())
    inventories = ", ".join(
        str(each.get("path") or each.get("name")) if isinstance(each, dict) else str(each)
        for each in audit.info.get("inventories") or ()
    )
    conflicts = audit.info.get("conflicts") or ()
    doubt = (
        f" ({many(len(conflicts), 'conflict')}: {conflicts[0]}{', ...' * (len(conflicts) > 1)})" if conflicts else ""
    )
    return f"policy {policies or 'none'}; inventory {inventories or 'none'}{doubt}; auditor {audit.info.get('version')}"
