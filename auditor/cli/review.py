"""``auditor review``: the history in a local web page."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from auditor.cli import _bundles as bundling
from auditor.cli import _options as options
from auditor.errors import ConfigError

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def review(
    store: Annotated[
        str,
        typer.Option(
            "--store",
            metavar="FILE",
            envvar="AUDITOR_STORE",
            help="The store that auditor audit --store or auditor run wrote.",
            show_default=False,
        ),
    ] = "",
    waivers: Annotated[
        Path | None,
        typer.Option("--waivers", metavar="FILE", help="File to which new waivers are added.", show_default=False),
    ] = None,
    captures: Annotated[
        list[Path] | None,
        typer.Option(
            "--captures",
            metavar="DIR",
            help="Folder with captures that were moved since the audit; repeatable.",
            show_default=False,
        ),
    ] = None,
    keylog: options.Keylog = None,
    port: Annotated[str, typer.Option("--port", metavar="NUMBER", help="Port on 127.0.0.1; 0: any free port.")] = "0",
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address, and do not open a browser.")
    ] = False,
) -> None:
    """Show the audits of a store in a web page, on this machine only: timeline, findings, packets, comparison, waivers.

    The printed address holds a token; whoever has it can read the store while this runs. Ctrl-C ends it.
    """
    number = options.number("--port", port, 65_535) or 0
    if not store:
        raise ConfigError("--store", "no store is named", hint="add --store FOLDER, or set AUDITOR_STORE")
    from auditor.policy.waivers import Known, load_waivers
    from auditor.store.history import open_history

    open_history(store).close()
    if keylog is not None:
        from auditor.tshark.decrypt import check

        check(keylog)
    for folder in captures or ():
        if not folder.is_dir():
            raise ConfigError(str(folder), "is not a folder", hint="name one with --captures")
    from auditor.jobs.keep import rule_names
    from auditor.review.packets import Library
    from auditor.review.pages import Review
    from auditor.review.server import Server

    if waivers is not None and waivers.exists():
        load_waivers([str(waivers)], Known(rule_names()))
    made = Review(
        store=Path(store),
        today=lambda: datetime.now(UTC).date(),
        waivers=waivers,
        originals=Library(tuple(captures or ())),
        keylog=keylog,
        bundler=bundling.of_finding,
    )
    with Server(made, number) as server:
        print(server.address, flush=True)
        if not no_browser and sys.stdout.isatty():
            import webbrowser

            webbrowser.open(server.address)
        server.serve_forever()
