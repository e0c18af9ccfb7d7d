"""``auditor connections``: the connection table alone.

Nothing is judged, which is what makes it quick, unless something that only a policy or an inventory can say is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from auditor.cli import _filters, complain
from auditor.cli import _options as options
from auditor.cli._progress import meter
from auditor.model.columns import CONNECTIONS

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

Words = list[str] | None

_EVIDENCE = frozenset(("tls", "ssh", "mysql", "nats", "http"))
"""Columns that hold what the first bytes show; collecting it costs more than all the rest, so only where it is shown."""
_WITH_EVIDENCE = frozenset(("json", "ndjson", "parquet", "html", "ocsf", "ecs", "zeek"))


def _option(name: str, metavar: str, says: str) -> Any:
    return typer.Option(name, metavar=metavar, help=says, show_default=False)


@app.command(epilog=f"Columns: {', '.join(column.name for column in CONNECTIONS)}.")
def connections(
    captures: options.Captures,
    fields: Annotated[str | None, _option("--fields", "A,B,...", "These columns, in this order.")] = None,
    from_role: Annotated[Words, _option("--from-role", "ROLE", "Opened by a VM with this role; repeatable.")] = None,
    to_role: Annotated[Words, _option("--to-role", "ROLE", "Answered by a VM with this role; repeatable.")] = None,
    to_port: Annotated[Words, _option("--to-port", "PORT[-PORT]", "Answered on this port; repeatable.")] = None,
    ip: Annotated[
        Words, _option("--ip", "ADDRESS[/BITS]", "Either end has this address, or is in this network; repeatable.")
    ] = None,
    application: Annotated[Words, _option("--application", "NAME", "tls, ssh, http, ...; repeatable.")] = None,
    disposition: Annotated[Words, _option("--disposition", "WORD", "documented, undeclared, ...; repeatable.")] = None,
    verdict: Annotated[Words, _option("--verdict", "WORD", "verified, violated, ...; repeatable.")] = None,
    rule: Annotated[Words, _option("--rule", "NAME", "Part of a finding of this rule; repeatable.")] = None,
    since: options.Since = None,
    until: options.Until = None,
    negate: Annotated[bool, typer.Option("--not", help="Invert the filter.")] = False,
    policy: options.Policies = None,
    release: options.Release = None,
    inventory: options.Inventories = None,
    linktype: options.Linktype = None,
    limit: options.LimitValues = None,
    follow: options.Follow = False,
    format: options.Format = "table",  # noqa: A002  # it is the option's name
    output: options.Output = None,
    allow_incomplete: options.AllowIncomplete = False,
    workers: options.Workers = 1,
    scheduler: options.Scheduler = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
    progress: options.Progress = "auto",
) -> None:
    """The connection table alone: who talked to whom, how much, in which protocol.

    What TLS, SSH, MySQL, NATS and HTTP show is in json, ndjson, parquet, ocsf, ecs and zeek, elsewhere where --fields names it (tls, ssh, ...).
    Roles, paths and dispositions are in it where --policy, --inventory, a filter or --fields asks for them. Exit status: 0, 2 for
    nothing to read or wrong arguments, 3 where an input was damaged.
    """
    name, table = options.written_as(format, output, None if format in options.WHOLE else "connections")
    columns = _filters.fields(fields)
    link = options.number("--linktype", linktype, 65_535)
    limits = options.limits(limit)
    wanted = _filters.make_filter(
        from_role or (), to_role or (), to_port or (), ip or (), application or (), disposition or (), negate,
        verdict=verdict or (), rule=rule or (), since=since, until=until,
    )  # fmt: skip
    wanted = _filters.resolve_roles(wanted, policy, inventory, release)
    judged = bool(
        name in options.WHOLE
        or policy
        or release
        or inventory
        or wanted.needs_policy
        or set(columns) - _filters.UNJUDGED
    )
    evidence = bool(set(columns) & _EVIDENCE) if columns else name in _WITH_EVIDENCE
    # Written as it is, without DataFrames, which take longer to import than most captures to follow.
    bare = name == "csv" and not judged and not evidence and wanted == _filters.Filter()
    with (
        options.destination(name, output) as target,
        meter(progress, quiet=quiet) as tell,
        options.following(follow) as stopped,
    ):
        from auditor import api

        reading: dict[str, Any] = {
            "linktype": link,
            "limits": limits,
            "follow": stopped,
            "workers": workers,
            "scheduler": scheduler,
            "progress": tell,
        }
        report: Any
        if judged:
            report = api.audit(
                captures,
                policy=policy or "tas",
                inventory=inventory or (),
                release=release,
                **reading,
            )
        elif bare:
            report = api.bare_connections(captures, **reading)
        else:
            report = api.connections(captures, evidence=evidence, **reading)
        tell.done()
        if bare:
            assert not isinstance(target, Path)  # noqa: S101  # only parquet is a folder
            with options.writing(target, output):
                report.write_csv(target, columns)
        else:
            shown = api.Report(_filters.apply(report.audit, wanted, columns))
            options.write(shown, name, target, table, no_color=no_color, output=output)
    reasons = report.incomplete(100.0)
    if not quiet:
        for reason in [*report.warnings, *(f"incomplete: {reason}" for reason in reasons)]:
            complain(reason)
        if report.idle is not None and not reasons:
            complain(report.idle)
    if verbose:
        complain(tell.summary())
    raise typer.Exit(3 if reasons and not allow_incomplete else 0)
