"""Questions of an incident, asked of a store by name: ``auditor history query who-spoke-to 10.0.8.99``.

Each is one SQL statement over the tables of the history; ``sql_of`` returns it, as a start for questions of one's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auditor.errors import ConfigError
from auditor.policy.addresses import to_int
from auditor.policy.inventory import parse_span
from auditor.wire.text import many

Ask = Callable[[str], Sequence[tuple[Any, ...]]]
"""Answers a statement with rows."""

_SAFE = re.compile(r"[\w .:*/@=,()+&-]{1,300}")
"""Characters that cannot end a text in SQL."""
MOST = 200


@dataclass(frozen=True, slots=True)
class Question:
    """One of them."""

    says: str
    given: tuple[str, ...]
    """What it is asked about; one in brackets may be left out."""
    sql: str
    """``{0}``, ``{1}``: what was given, quoted; ``{outside}``: addresses outside of every platform network; ``{within}``: the connections it is about."""
    none: str
    """The message for an empty answer; ``{0}``, ``{1}`` as in ``sql``, as they were given."""


_WHO = "coalesce({end}_instance, {end}_ip)"
_SPAN = "min(start) AS first_seen, max(start) AS last_seen"


def _shows(end: str, side: str) -> str:
    return f"""
        SELECT unnest(json_extract_string(tls, '$.{side}_certificates[*]')) AS certificate, '{side}' AS shown_as, {end}_ip AS address,
            {end}_instance AS instance, {end}_roles AS roles, start
        FROM {{within}} WHERE tls IS NOT NULL
    """  # noqa: S608  # words of our own


_SHOWN = f"""
    WITH shown AS ({_shows("originator", "client")} UNION ALL {_shows("responder", "server")}), hosts AS (
        SELECT certificate, shown_as, address, instance, array_to_string(any_value(roles), ' ') AS roles, count(*) AS connections, {_SPAN}
        FROM shown GROUP BY certificate, shown_as, address, instance
    ), told AS (
        SELECT sha256, any_value(common_name) AS common_name, any_value(issuer) AS issuer, any_value(not_before) AS not_before,
            any_value(not_after) AS not_after, any_value(concat_ws(' ', subject, issuer_name, names, key_sha256)) AS more
        FROM certificates GROUP BY sha256
    ), all_of_it AS (
        SELECT certificate, common_name, issuer, not_before, not_after, shown_as, address, instance, roles, connections, first_seen, last_seen,
            lower(concat_ws(' ', certificate, common_name, issuer, more, not_before, not_after, shown_as, address, instance, roles)) AS text
        FROM hosts LEFT JOIN told ON sha256 = certificate
    ), words AS (SELECT unnest(string_split(lower({{0}}), ' ')) AS word)
    SELECT * EXCLUDE (text) FROM all_of_it
    WHERE NOT EXISTS (
        SELECT 1 FROM words WHERE CASE
            WHEN regexp_full_match(word, '[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+|[0-9a-f]*:[0-9a-f]*:[0-9a-f:.]*') THEN address <> word
            ELSE NOT contains(text, word) END
    )
    ORDER BY first_seen, certificate, address LIMIT {MOST}
"""  # noqa: S608  # as above

_GAPS = f"""
    WITH calls AS (
        SELECT originator_ip, {_WHO.format(end="originator")} AS originator, responder_ip, responder_port, transport, id, epoch_ns(start) AS moment,
            originator_bytes AS sent, responder_bytes AS received
        FROM {{within}} WHERE outcome = 'established'
    ), gaps AS (
        SELECT *, moment - lag(moment) OVER (PARTITION BY originator_ip, responder_ip, responder_port, transport ORDER BY moment) AS gap FROM calls
    ), periods AS (
        SELECT *, median(gap) OVER (PARTITION BY originator_ip, responder_ip, responder_port, transport) AS period FROM gaps
    )
    SELECT originator, responder_ip, responder_port, transport, count(*) AS calls, round(any_value(period) / 1e9, 3) AS period_s,
        round(median(abs(gap - greatest(round(gap / period), 1) * period)) / 1e9, 3) AS jitter_s,
        round((max(moment) - min(moment)) / 3.6e12, 3) AS hours, sum(sent) AS sent_bytes, sum(received) AS received_bytes, min_by(id, moment) AS connection
    FROM periods WHERE period >= 5e8
    GROUP BY originator, originator_ip, responder_ip, responder_port, transport
    HAVING count(*) >= 6 AND median(abs(gap - greatest(round(gap / period), 1) * period)) <= 0.125 * any_value(period)
    ORDER BY calls DESC, period_s LIMIT {MOST}
"""  # noqa: S608  # as above

QUESTIONS: Mapping[str, Question] = {
    "who-spoke-to": Question(
        "connections from or to this address; those with access first",
        ("ADDRESS",),
        f"""
        SELECT {_WHO.format(end="originator")} AS originator, {_WHO.format(end="responder")} AS responder, responder_port, transport, application,
            count(*) AS connections, count(*) FILTER (WHERE entered) AS access, sum(originator_bytes) AS sent_bytes, sum(responder_bytes) AS received_bytes, {_SPAN}
        FROM {{within}}
        WHERE originator_ip = {{0}} OR responder_ip = {{0}} OR originator_instance = {{0}} OR responder_instance = {{0}}
        GROUP BY ALL ORDER BY access = 0, first_seen LIMIT {MOST}
        """,  # noqa: S608
        "no connection has the end {0}",
    ),
    "who-shows": Question(
        "which hosts show a certificate: by words of its subject, issuer, SHA-256, validity, address, VM or role (all must match)",
        ("TEXT",),
        _SHOWN,
        "no certificate that was shown has all of these words: {0}",
    ),
    "first-and-last": Question(
        "first and last connection of two addresses",
        ("ADDRESS", "ADDRESS"),
        f"""
        SELECT originator_ip, responder_ip, responder_port, transport, application, count(*) AS connections, {_SPAN}, min_by(id, start) AS connection
        FROM {{within}}
        WHERE (originator_ip = {{0}} AND responder_ip = {{1}}) OR (originator_ip = {{1}} AND responder_ip = {{0}})
        GROUP BY ALL ORDER BY first_seen LIMIT {MOST}
        """,  # noqa: S608
        "no connection of {0} and {1}",
    ),
    "longest": Question(
        "the longest connections; those that were established first",
        (),
        f"""
        SELECT round(duration, 3) AS seconds, start, {_WHO.format(end="originator")} AS originator, {_WHO.format(end="responder")} AS responder, responder_port,
            application, disposition, originator_bytes, responder_bytes, id AS connection
        FROM {{within}} ORDER BY outcome <> 'established', duration DESC, start, id LIMIT 50
        """,  # noqa: S608
        "no connection",
    ),
    "beacons": Question(
        "calls at regular intervals, with period and jitter over all audits, and one connection as example",
        (),
        _GAPS,
        "no calls come back at regular times",
    ),
    "leaving": Question(
        "traffic that left the platform, by bytes",
        (),
        f"""
        SELECT {_WHO.format(end="originator")} AS originator, responder_ip, responder_port, transport, application, count(*) AS connections,
            sum(originator_bytes) AS sent_bytes, sum(responder_bytes) AS received_bytes, {_SPAN}, max_by(id, originator_bytes) AS connection
        FROM {{within}} WHERE responder_ip IN ({{outside}})
        GROUP BY ALL ORDER BY sent_bytes DESC LIMIT {MOST}
        """,  # noqa: S608
        "no connection left the platform",
    ),
    "new-since": Question(
        "pairs of ends that did not talk in the days before (7, or this number)",
        ("[DAYS]",),
        f"""
        WITH pairs AS (
            SELECT {_WHO.format(end="originator")} AS originator, {_WHO.format(end="responder")} AS responder, responder_port, transport,
                any_value(disposition) AS disposition, count(*) AS connections, {_SPAN}, min_by(id, start) AS connection
            FROM {{within}}
            WHERE outcome = 'established' AND (responder_port IS NULL OR responder_port < 32768 OR disposition = 'undeclared')
            GROUP BY 1, 2, 3, 4
        )
        SELECT * FROM pairs
        WHERE epoch_ns(first_seen) > (SELECT max(epoch_ns(start)) FROM {{within}}) - CAST({{0}} AS DOUBLE) * 86400e9
            AND (SELECT min(epoch_ns(start)) FROM {{within}}) <= (SELECT max(epoch_ns(start)) FROM {{within}}) - CAST({{0}} AS DOUBLE) * 86400e9
        ORDER BY disposition <> 'undeclared', first_seen LIMIT {MOST}
        """,  # noqa: S608
        "nothing is new in the last {0} days",
    ),
}


@dataclass(frozen=True, slots=True)
class Span:
    """Connections seen then or later, begun then or earlier; None: whenever."""

    since_ns: int | None = None
    until_ns: int | None = None

    @property
    def sql(self) -> str:
        """The connections, as a table: one that several audits looked at is there once, as the newest of them has it."""
        told = [f"epoch_ns(start) + round(duration * 1e9) >= {self.since_ns}"] if self.since_ns is not None else []
        told += [f"epoch_ns(start) <= {self.until_ns}"] if self.until_ns is not None else []
        asked = f" WHERE {' AND '.join(told)}" if told else ""
        return f"(SELECT * FROM connections{asked} QUALIFY row_number() OVER (PARTITION BY id ORDER BY audit DESC) = 1)"  # noqa: S608  # numbers


def none_of(name: str, given: Sequence[str], ask: Ask, span: Span) -> str:
    """The message for an empty answer to a question."""
    values = _values(QUESTIONS[name], given)
    if name == "new-since":
        [(oldest, newest)] = ask(f"SELECT min(epoch_ns(start)), max(epoch_ns(start)) FROM {span.sql}")  # noqa: S608
        if oldest is None or oldest > newest - float(values[0]) * 86_400e9:
            return (
                f"there is nothing to compare with: no connection is more than {values[0]} days older than the last one"
            )
        return f"nothing is new in the last {values[0]} days"
    return QUESTIONS[name].none.format(*values)


def _values(question: Question, given: Sequence[str]) -> list[str]:
    return [*given, *(["7"] if len(given) < len(question.given) else [])]


def sql_of(name: str, given: Sequence[str], ask: Ask, networks: Sequence[str], span: Span = Span()) -> str:
    """The statement of a question. ``networks``: the platform's. Raises ConfigError."""
    question = QUESTIONS[name]
    least = sum(not each.startswith("[") for each in question.given)
    if not least <= len(given) <= len(question.given):
        usage = " ".join([name, *question.given])
        raise ConfigError(
            name,
            f"needs {many(len(question.given), 'value') if question.given else 'no value'}, {len(given)} given",
            hint=usage,
        )
    values = _values(question, given)
    for each in values:
        if not _SAFE.fullmatch(each):
            raise ConfigError(name, f"{each!r} is not an address, name or number", hint="write it as in the report")
    if name == "new-since" and not re.fullmatch(r"\d{1,5}(\.\d+)?", values[0]):
        raise ConfigError(name, f"{values[0]!r} is not a number of days", hint="new-since 7")
    quoted = [f"'{each}'" for each in values]
    outside = _outside(ask, networks) if "{outside}" in question.sql else ""
    return question.sql.format(*quoted, outside=outside, within=span.sql)


def _outside(ask: Ask, networks: Sequence[str]) -> str:
    """Responders in no inventory that lie outside of every network of the platform, quoted."""
    spans = [parse_span(each) for each in networks]
    found = [
        str(address)
        for (address,) in ask("SELECT DISTINCT responder_ip FROM connections WHERE responder_instance IS NULL")
        if not any(first <= to_int(str(address)) <= last for first, last in spans)
    ]
    return ", ".join(f"'{each}'" for each in found) or "NULL"
