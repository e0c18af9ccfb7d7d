"""``auditor connections``: only the connection table.

No verdicts are computed, which makes it fast, unless an option asks for something that needs a policy or an inventory.
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
"""Columns about the first bytes; collecting them costs more than all the rest, so only on request."""
_WITH_EVIDENCE = frozenset(("json", "ndjson", "parquet", "html", "ocsf", "ecs", "zeek"))


def _option(name: str, metavar: str, says: str) -> Any:
    return typer.Option(name, metavar=metavar, help=says, show_default=False)


@app.command(epilog=f"Columns: {', '.join(column.name for column in CONNECTIONS)}.")
def connections(
    captures: options.Captures,
    fields: Annotated[str | None, _option("--fields", "A,B,...", "Show these columns, in this order.")] = None,
    from_role: Annotated[
        Words, _option("--from-role", "ROLE", "Role of the VM that opened the connection; repeatable.")
    ] = None,
    to_role: Annotated[Words, _option("--to-role", "ROLE", "Role of the VM that answered; repeatable.")] = None,
    to_port: Annotated[Words, _option("--to-port", "PORT[-PORT]", "Port of the responder; repeatable.")] = None,
    ip: Annotated[Words, _option("--ip", "ADDRESS[/BITS]", "Address or network of either end; repeatable.")] = None,
    application: Annotated[
        Words, _option("--application", "NAME", "Application protocol: tls, ssh, http, ...; repeatable.")
    ] = None,
    disposition: Annotated[
        Words, _option("--disposition", "WORD", "Disposition: documented, undeclared, ...; repeatable.")
    ] = None,
    verdict: Annotated[Words, _option("--verdict", "WORD", "Verdict: verified, violated, ...; repeatable.")] = None,
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
    format: options.Format = "table",  # noqa: A002  # the option's name
    output: options.Output = None,
    allow_incomplete: options.AllowIncomplete = False,
    workers: options.Workers = 1,
    scheduler: options.Scheduler = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
    progress: options.Progress = "auto",
) -> None:
    """Show only the connection table: who talked to whom, how much, in which protocol.

    Details of TLS, SSH, MySQL, NATS and HTTP are in json, ndjson, parquet, ocsf, ecs and zeek; in other formats name them with --fields (tls, ssh, ...).
    Roles, paths and dispositions are added where --policy, --inventory, a filter or --fields asks for them. Exit status: 0, 2 for
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
    # Written directly, without DataFrames: importing pandas takes longer than most captures.
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
