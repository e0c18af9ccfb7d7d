"""``auditor audit``: one pass over captures, a report, an exit status."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import typer

from auditor.cli import _options as options
from auditor.cli import complain
from auditor.cli._filters import moment
from auditor.cli._progress import meter

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def audit(
    captures: options.Captures,
    policy: options.Policies = None,
    release: options.Release = None,
    inventory: options.Inventories = None,
    ca: options.Cas = None,
    keylog: options.Keylog = None,
    scope: options.Scope = "diego",
    strict: options.Strict = False,
    linktype: options.Linktype = None,
    limit: options.LimitValues = None,
    follow: options.Follow = False,
    format: options.Format = "table",  # noqa: A002  # the option's name
    output: options.Output = None,
    table: Annotated[
        str | None,
        typer.Option("--table", metavar="|".join(options.TABLES), help="Only this table.", show_default=False),
    ] = None,
    fail_on: Annotated[
        str,
        typer.Option(
            "--fail-on", metavar="|".join(options.FAIL_ON), help="Exit 1 for findings of this severity or higher."
        ),
    ] = "medium",
    max_undecided: options.MaxUndecided = 5.0,
    waivers: options.Waivers = None,
    store: options.Store = None,
    baseline: options.Baseline = None,
    new_only: options.NewOnly = False,
    hash: options.Hash = False,  # noqa: A002  # the option's name
    since: options.Since = None,
    until: options.Until = None,
    host: options.Host = None,
    allow_incomplete: options.AllowIncomplete = False,
    workers: options.Workers = 1,
    scheduler: options.Scheduler = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
    progress: options.Progress = "auto",
) -> None:
    """Audit captures: compare every connection with the documented paths.

    Exit status: 0 no findings at or above --fail-on, and the audit is complete; 1 such findings, or a waiver that has expired; 2 nothing could be audited, or the
    arguments are wrong; 3 no such findings, but the audit is incomplete.
    """
    name, which = options.written_as(format, output, table)
    options.choice("--fail-on", fail_on, options.FAIL_ON)
    options.choice("--scope", scope, ("diego", "all"))
    options.percent("--max-undecided", max_undecided)
    link = options.number("--linktype", linktype, 65_535)
    limits = options.limits(limit)
    with (
        options.destination(name, output) as target,
        meter(progress, quiet=quiet) as tell,
        options.following(follow) as stopped,
    ):
        from auditor import api

        report = api.audit(
            captures,
            policy=policy or "tas",
            inventory=inventory or (),
            release=release,
            ca=ca or (),
            keylog=keylog,
            scope=cast(Literal["diego", "all"], scope),
            strict=strict,
            linktype=link,
            limits=limits,
            follow=stopped,
            fail_on=fail_on,
            max_undecided=max_undecided,
            waivers=waivers or (),
            store=store,
            baseline=baseline,
            new_only=new_only,
            hash=hash,
            since=moment("--since", since),
            until=moment("--until", until),
            workers=workers,
            scheduler=scheduler,
            progress=tell,
        )
        if output is None:
            tell.done()  # the report may be written to the same terminal
        else:
            tell.say(f"{tell.packets:,} packets read and judged, writing {output}")
        if host is not None:
            report = report.of_host(host)
        options.write(report, name, target, which, no_color=no_color, output=output)
    status = report.exit_status(fail_on, max_undecided, allow_incomplete)
    if not quiet:
        for warning in report.warnings:
            complain(warning)
        if name != "table" or verbose:
            for reason in report.incomplete(max_undecided):
                complain(f"incomplete: {reason}")
    if verbose:
        complain(tell.summary())
        complain(f"exit status {status}: {report.failing(fail_on)} findings at or above {fail_on}")
    raise typer.Exit(status)
