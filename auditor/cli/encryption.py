"""``auditor encryption``: what is still sent unencrypted."""

from __future__ import annotations

from typing import Annotated

import typer

from auditor.cli import _options as options
from auditor.cli import complain
from auditor.cli._progress import meter

FORMS = ("table", "json", "markdown", "html", "csv")

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def encryption(
    captures: options.Captures,
    policy: options.Policies = None,
    release: options.Release = None,
    inventory: options.Inventories = None,
    linktype: options.Linktype = None,
    limit: options.LimitValues = None,
    format: Annotated[  # noqa: A002  # the option's name
        str, typer.Option("--format", "-f", metavar="|".join(FORMS), help="Output format.")
    ] = "table",
    output: options.Output = None,
    allow_incomplete: options.AllowIncomplete = False,
    workers: options.Workers = 1,
    quiet: options.Quiet = False,
    progress: options.Progress = "auto",
) -> None:
    """Show what is still sent unencrypted: on which path and from which VM, by whom, how much, since when, and whether TLS is declared there.

    Connections without a Diego VM count, too. Exit status: 0, 2 for nothing to read or wrong arguments, 3 where an input was damaged or
    no host has a known role.
    """
    options.choice("--format", format, FORMS)
    link = options.number("--linktype", linktype, 65_535)
    limits = options.limits(limit)
    with options.destination(format, output) as target, meter(progress, quiet=quiet) as tell:
        from auditor import api

        report = api.audit(
            captures,
            policy=policy or "tas",
            inventory=inventory or (),
            release=release,
            scope="all",
            linktype=link,
            limits=limits,
            workers=workers,
            progress=tell,
        )
        tell.done()
        text = report.encryption(format).encode()
        with options.writing(target, output):
            target.write(text)  # type: ignore[union-attr]  # none of these formats is a folder
    reasons = report.incomplete(100.0)
    frame = report.connections
    if len(frame) and frame["originator_role"].isna().all() and frame["responder_role"].isna().all():
        reasons.append("nothing was counted, because no host has a known role; add --inventory FILE")
    if not quiet:
        for line in [*report.warnings, *(f"incomplete: {reason}" for reason in reasons)]:
            complain(line)
    raise typer.Exit(3 if reasons and not allow_incomplete else 0)
