"""``auditor history``: what earlier audits found, and what changed between two."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditor.cli import _filters
from auditor.cli import _options as options
from auditor.errors import ConfigError, did_you_mean
from auditor.report._text import escape
from auditor.wire.text import many

if TYPE_CHECKING:
    import pyarrow as pa

    from auditor.store.history import History
    from auditor.store.questions import Span

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=False,
    help="What earlier audits found, and what changed between two.",
)

Words = list[str] | None
Text = str | None

Store = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="FILE",
        envvar="AUDITOR_STORE",
        help="The store that auditor audit --store or auditor run wrote.",
        show_default=False,
    ),
]


def _option(name: str, metavar: str, says: str) -> Any:
    return typer.Option(name, metavar=metavar, help=says, show_default=False)


FromRole = Annotated[Words, _option("--from-role", "ROLE", "Role of the VM that opened the connection; repeatable.")]
ToRole = Annotated[Words, _option("--to-role", "ROLE", "Role of the VM that answered; repeatable.")]
ToPort = Annotated[Words, _option("--to-port", "PORT[-PORT]", "Port of the responder; repeatable.")]
Ip = Annotated[Words, _option("--ip", "ADDRESS[/BITS]", "Address or network of either end; repeatable.")]
Application = Annotated[
    Words, _option("--application", "NAME", "Application protocol: tls, ssh, http, ...; repeatable.")
]
Disposition = Annotated[
    Words, _option("--disposition", "WORD", "Disposition: documented, undeclared, ...; repeatable.")
]
Verdict = Annotated[Words, _option("--verdict", "WORD", "Verdict: verified, violated, ...; repeatable.")]
Rule = Annotated[Words, _option("--rule", "NAME", "Part of a finding of this rule; repeatable.")]
Negate = Annotated[bool, typer.Option("--not", help="Invert the filter.")]
Fields = Annotated[Text, _option("--fields", "A,B,...", "Show these columns, in this order.")]


_FORMATS = ("table", "json", "ndjson", "csv", "parquet", "markdown")
"""Formats of lists and answers; ``show`` writes reports in every format."""


def _named(store: str) -> Path:
    if not store:
        raise ConfigError("--store", "no store is named", hint="add --store FOLDER, or set AUDITOR_STORE")
    return Path(store)


@contextmanager
def _opened(store: str) -> Iterator[History]:
    """The store, opened for reading. Losses are printed; a damaged disk is one line of message. Raises ConfigError."""
    from auditor.store.history import guarded, open_history

    with guarded(_named(store)), open_history(store) as history:
        for says in history.missing():
            print(f"auditor: {escape(says)}", file=sys.stderr)
        yield history


@app.command()
def check(store: Store = "") -> None:
    """Check every file of a store: what is damaged now, and what was lost before. Exit status 3 if anything is."""
    from auditor.store.health import check as checked

    found, lost = checked(_named(store))
    for says in (*found, *lost):
        print(escape(says))
    print(
        _state(store, lost) if not found else f"{store}: {many(len(found), 'thing')} to repair (auditor history repair)"
    )
    if found or lost:
        raise typer.Exit(3)


@app.command()
def repair(store: Store = "") -> None:
    """Move damaged files aside, and rebuild the catalogue where needed; print what is lost. Scheduled passes do this automatically."""
    import time

    from auditor.jobs.lock import only_one
    from auditor.store.health import repair as repaired

    place = _named(store)
    if not place.is_dir():
        raise ConfigError(store, "is not a store of audits")
    from auditor.store.health import check as checked

    with only_one(place, time.time_ns()):
        told = repaired(place, time.time_ns())
        _, lost = checked(place)
    for says in dict.fromkeys((*told, *lost)):
        print(escape(says))
    print(_state(store, lost))


def _state(store: str, lost: list[str]) -> str:
    """The message for a store whose files are all intact."""
    return f"{store}: all files are intact" + (
        f", apart from {many(len(lost), 'loss', 'losses')} found earlier (above)" if lost else ""
    )


def _picked(table: pa.Table, fields: str | None) -> pa.Table:
    if fields is None:
        return table
    names = [name.strip().replace(".", "_") for name in fields.split(",")]
    for name in names:
        if name not in table.schema.names:
            raise ConfigError("--fields", f"unknown column {name!r}", hint=f"one of {', '.join(table.schema.names)}")
    return table.select(list(dict.fromkeys(names)))


def _write(table: pa.Table, format: str, output: Path | None, kind: str, spare: Sequence[str] = ()) -> None:  # noqa: A002  # the option's name
    from auditor.report._plain import write_table

    options.choice("--format", format, _FORMATS)
    if format == "parquet" and output is None:
        raise ConfigError("--format", "parquet is a folder of files", hint="add --output DIR")
    with options.destination(format, output) as target:
        try:
            write_table(table, format, target, kind, width=0 if output else options.width(), spare=spare)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ConfigError(
                str(output or "standard output"), f"cannot be written: {error.strerror or error}"
            ) from error


@app.command("list")
def list_(
    store: Store = "",
    since: options.Since = None,
    until: options.Until = None,
    last: Annotated[
        int | None, typer.Option("--last", metavar="N", min=1, help="Only the last N audits.", show_default=False)
    ] = None,
    fields: Fields = None,
    format: options.Format = "table",  # noqa: A002  # the option's name
    output: options.Output = None,
) -> None:
    """List the audits of a store, in the order in which they were stored."""
    import pyarrow as pa

    from auditor.policy.times import OUTSIDE

    with _opened(store) as history:
        rows = history.rows(
            since_ns=_filters.moment("--since", since), until_ns=_filters.moment("--until", until), last=last
        )
        windows = [history.window(row) or None for row in rows]
    moment = pa.timestamp("us" if format in ("table", "markdown") else "ns", "UTC")
    columns: dict[str, Any] = {
        "audit": pa.array([row.audit for row in rows], pa.int32()),
        "id": [row.id for row in rows],
    }
    columns["kind"] = [row.kind for row in rows]
    for name in ("first", "last", "started"):
        values = pa.array([getattr(row, f"{name}_ns") for row in rows], pa.int64())
        columns[name] = values.cast(pa.timestamp("ns", "UTC")).cast(moment, safe=False)
    for name in ("captures", "connections", "findings", "new", "waived", "critical", "high", "medium", "low", "info"):
        columns[name] = pa.array([row.counts[name] for row in rows], pa.int64())
    columns["complete"] = pa.array([bool(row.counts["complete"]) for row in rows], pa.bool_())
    columns["window"] = pa.array(windows, pa.string())
    people = format in ("table", "markdown")
    if people and fields is None:
        del columns["window"]  # printed below, as text
    _write(_picked(pa.table(columns), fields), format, output, "audit", () if fields else _SPARE)
    if people and fields is None and output is None:
        for row, window in zip(rows, windows, strict=True):
            if window:
                _print(f"audit {row.audit}: {window} only; {OUTSIDE}")


def _print(text: str, indent: int = 0) -> None:
    """One paragraph, broken between words where the terminal is narrower; elsewhere one line."""
    from auditor.report._text import wrapped

    print("\n".join(wrapped(" " * indent + text, options.width(), indent + 2)))


_SPARE = ("started", "first", "kind", "waived", "low", "info", "captures", "medium", "id")
"""Columns of the list that are left out where a terminal is too narrow, in this order."""


@app.command()
def show(
    audit: Annotated[str, typer.Argument(metavar="[AUDIT]", help="Id, number, latest, latest~1.")] = "latest",
    store: Store = "",
    from_role: FromRole = None,
    to_role: ToRole = None,
    to_port: ToPort = None,
    ip: Ip = None,
    application: Application = None,
    disposition: Disposition = None,
    verdict: Verdict = None,
    rule: Rule = None,
    since: options.Since = None,
    until: options.Until = None,
    host: options.Host = None,
    negate: Negate = False,
    fields: Fields = None,
    table: Annotated[
        Text, typer.Option("--table", metavar="|".join(options.TABLES), help="Only this table.", show_default=False)
    ] = None,
    format: options.Format = "table",  # noqa: A002  # the option's name
    output: options.Output = None,
    no_color: options.NoColor = False,
) -> None:
    """Show the report of a stored audit, in any format. With a filter or --fields: its connections."""
    from auditor import api
    from auditor.jobs import keep

    wanted = _filters.make_filter(
        from_role or (), to_role or (), to_port or (), ip or (), application or (), disposition or (), negate,
        verdict=verdict or (), rule=rule or (), since=since, until=until,
    )  # fmt: skip
    columns = _filters.fields(fields)
    if table is None and (columns or wanted != _filters.Filter()):
        table = "connections"
    name, which = options.written_as(format, output, table)
    with _opened(store) as history:
        found = keep.restore(history, history.find(audit))
    with options.destination(name, output) as target:
        told = api.Report(found) if host is None else api.Report(found).of_host(host)
        shown = api.Report(_filters.apply(told.audit, wanted, columns))
        options.write(shown, name, target, which, no_color=no_color, output=output)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(metavar="[AUDIT]", help="The earlier audit.")] = "latest~1",
    after: Annotated[str, typer.Argument(metavar="[AUDIT]", help="The later one.")] = "latest",
    store: Store = "",
    all_: Annotated[bool, typer.Option("--all", help="Show continuing findings, too.")] = False,
    fields: Fields = None,
    format: options.Format = "table",  # noqa: A002  # the option's name
    output: options.Output = None,
) -> None:
    """Show what changed between two audits: findings, documented paths, who talks to whom, and the policies, inventories and waivers."""
    import pyarrow as pa

    from auditor.jobs.compare import compare, made_of

    with _opened(store) as history:
        pair = history.find(before), history.find(after)
        windows = [history.window(row) for row in pair]
        changes = compare(history, *pair)
        sides = [(row, made_of(history, row)) for row in pair]
    if not all_:
        changes = [each for each in changes if each.change != "continuing"]
    if format == "table" and fields is None and output is None:
        _tell(sides, windows, changes)
        return
    schema = pa.schema([(name, pa.string()) for name in ("change", "what", "name", "severity", "says")])
    compared = [
        {
            "change": word,
            "what": "audit",
            "name": row.id,
            "says": f"audit {row.audit}: {what}" + (f", {window} only" if window else ""),
        }
        for word, (row, what), window in zip(("from", "to"), sides, windows, strict=True)
    ]
    made = pa.Table.from_pylist([*compared, *(each.as_dict() for each in changes)], schema=schema)
    _write(_picked(made, fields), format, output, "change")


_HEADS = {
    "new": "New findings",
    "gone": "Findings that are gone",
    "continuing": "Findings that continue",
    "waived": "Findings now waived",
    "unwaived": "Findings no longer waived",
    "seen": "Documented paths now seen",
    "silent": "Documented paths no longer seen",
    "verdicts": "Documented paths with other verdicts",
    "appeared": "New pairs of ends that talk",
    "disappeared": "Pairs of ends that no longer talk",
    "outside": "Outside the later audit's window",
    "decided_by": "Policies, inventories and waivers",
}


def _tell(sides: list[tuple[Any, str]], windows: list[str], changes: list[Any]) -> None:
    from auditor.policy.times import OUTSIDE

    for word, (row, made_of) in zip(("From", "to"), sides, strict=True):
        _print(f"{word} audit {row.audit} ({row.id}): {escape(made_of)}")
    for (row, _), window in zip(sides, windows, strict=True):
        if window:
            _print(f"audit {row.audit}: {window} only; {OUTSIDE}")
    for kind, head in _HEADS.items():
        found = [each for each in changes if each.change == kind]
        if found:
            print(f"\n{head}: {len(found)}")
        for each in found:
            grade = f"{each.severity.upper()} " if each.severity else ""
            _print(f"{grade}{escape(each.says)}", 2)
    if not changes:
        print("Nothing changed.")


@app.command()
def query(
    sql: Annotated[
        Text,
        typer.Argument(
            metavar="[SQL|QUESTION]",
            help="SQL for DuckDB, or the name of a question (--questions lists them). Default: use the filter options.",
            show_default=False,
        ),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WORD]...", help="The subject of a named question: an address, a certificate.", show_default=False
        ),
    ] = None,
    questions: Annotated[bool, typer.Option("--questions", help="List the named questions.")] = False,
    store: Store = "",
    from_role: FromRole = None,
    to_role: ToRole = None,
    to_port: ToPort = None,
    ip: Ip = None,
    application: Application = None,
    disposition: Disposition = None,
    verdict: Verdict = None,
    rule: Rule = None,
    since: options.Since = None,
    until: options.Until = None,
    negate: Negate = False,
    fields: Fields = None,
    format: options.Format = "table",  # noqa: A002  # the option's name
    output: options.Output = None,
) -> None:
    """Search the connections of all audits with a filter, or run SQL on the tables audits, connections, findings, coverage, captures, certificates, facts, deciders and locations."""
    wanted = _filters.make_filter(
        from_role or (), to_role or (), to_port or (), ip or (), application or (), disposition or (), negate,
        verdict=verdict or (), rule=rule or (), since=since, until=until,
    )  # fmt: skip
    from auditor.store.questions import QUESTIONS, Span

    if questions:
        for each, question in QUESTIONS.items():
            print(f"{' '.join([each, *question.given]):<34} {question.says}")
        return
    if sql is not None and sql not in QUESTIONS and (given or not _is_sql(sql)):
        known = f"one of {', '.join(QUESTIONS)}, or SQL"
        raise ConfigError("query", f"{sql!r} is not a named question", hint=did_you_mean(sql, QUESTIONS, known))
    windowed = replace(wanted, since_ns=None, until_ns=None) if sql in QUESTIONS else wanted
    if sql is not None and (windowed != _filters.Filter() or fields is not None):
        raise ConfigError(
            "query",
            "of the filter options a named question takes --since and --until only"
            if sql in QUESTIONS
            else "SQL and filter options cannot be combined",
            hint="write the condition in SQL, or use filter options only",
        )
    from auditor.jobs import keep

    with _opened(store) as history:
        none: Callable[[], str] = lambda: "no row" if sql is not None else "no connection matches"  # noqa: E731
        if sql is not None and sql in QUESTIONS:
            sql, none = _asked(history, sql, given or [], Span(wanted.since_ns, wanted.until_ns))
        table = history.query(sql, keep.schemas()) if sql is not None else _filtered(history, wanted, _columns(fields))
        if not table.num_rows:
            audits = many(len(history.rows()), "audit")
            print(f"auditor: {escape(none())} (of {audits})", file=sys.stderr)
    _write(table, format, output, "row" if sql is not None else "connection")


_SQL = frozenset({"select", "with", "from", "describe", "show", "summarize", "pragma", "explain", "table", "values", "pivot", "unpivot"})  # fmt: skip


def _is_sql(text: str) -> bool:
    """Whether it begins as a statement does; a single word that does not was meant as a question."""
    words = text.replace("(", " ").split()
    return len(words) > 1 or not words or words[0].lower().rstrip(";") in _SQL


def _asked(history: Any, name: str, given: list[str], span: Span) -> tuple[str, Callable[[], str]]:
    """The SQL of a named question, and what to say of an empty answer."""
    from auditor.jobs import keep
    from auditor.store.questions import none_of, sql_of

    def ask(sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in history.query(sql, keep.schemas()).to_pylist()]

    latest = history.rows(last=1)
    networks = history.body(latest[0].audit)["audit"].get("platform_networks") or () if latest else ()
    return sql_of(name, given, ask, networks, span), lambda: none_of(name, given, ask, span)


def _columns(fields: str | None) -> tuple[str, ...]:
    """The chosen columns; the audit number always comes first."""
    if fields is None:
        return ()
    names = [name for name in fields.split(",") if name.strip() != "audit"]
    return _filters.fields(",".join(names)) if names else ("id",)


_SHOWN = (
    "start", "duration", "originator_ip", "originator_role", "responder_ip", "responder_port", "responder_role", "transport",
    "application", "disposition", "authentication_verdict",
)  # fmt: skip


def _filtered(history: Any, wanted: _filters.Filter, columns: tuple[str, ...]) -> pa.Table:
    """Connections of all audits that match, with the number of their audit."""
    import pyarrow as pa

    from auditor.jobs import keep

    shown = columns or _SHOWN
    asked = [*dict.fromkeys([*shown, *wanted.columns])]
    span = (None, None) if wanted.negate else (wanted.since_ns, wanted.until_ns)
    found = []
    rules = (
        [keep.frame_of("findings", each) for each in history.scan("findings", ["id", "rule"], *span)]
        if wanted.rules
        else []
    )
    for piece in history.scan("connections", asked, *span):
        table = piece
        if wanted != _filters.Filter() and table.num_rows:
            frame = keep.frame_of("connections", table)
            findings = None
            if rules:
                import pandas as pd

                findings = pd.concat(rules, ignore_index=True)
            table = table.filter(pa.array(wanted.mask(frame, findings).to_numpy(bool)))
        found.append(table.select(["audit", *shown]))
    if not found:
        schema = keep.schemas()["connections"]
        return pa.schema([pa.field("audit", pa.int32()), *(schema.field(name) for name in shown)]).empty_table()
    return pa.concat_tables(found, promote_options="default")
