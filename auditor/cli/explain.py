"""`auditor explain`: what a rule, a documented path or a finding means."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from auditor.cli import _options as options
from auditor.cli._filters import moment


def explain(
    name: Annotated[
        str,
        typer.Argument(
            metavar="[RULE|PATH|ROW|FINDING]",
            help="Name of a rule, id or row number of a path, id of a finding. Default: list all.",
        ),
    ] = "",
    captures: Annotated[
        list[str] | None, typer.Argument(metavar="[CAPTURE]...", help="For a finding: the captures it was found in.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy", metavar="NAME|FILE", help="Policy that declares the path. Default: all shipped policies."
        ),
    ] = None,
    release: options.Release = None,
    inventory: options.Inventories = None,
    ca: options.Cas = None,
    keylog: options.Keylog = None,
    strict: options.Strict = False,
    since: options.Since = None,
    until: options.Until = None,
    linktype: options.Linktype = None,
    limit: options.LimitValues = None,
    scope: Annotated[
        str,
        typer.Option("--scope", metavar="diego|all", help="For a finding: as for the audit that found it."),
    ] = "diego",
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="STORE", help="For a finding: the store that has it.", show_default=False),
    ] = None,
    audit: Annotated[
        str, typer.Option("--audit", metavar="AUDIT", help="For a finding: which audit of the store.")
    ] = "latest",
) -> None:
    """Explain a rule, a documented path or a finding: what it means, why it matters, what to do.

    A finding is looked up in a --store, or in an audit of the captures named after it.
    """
    from auditor.errors import ConfigError, close_names
    from auditor.policy import shipped
    from auditor.policy.loader import load_policy
    from auditor.rules import _pages

    if captures or store is not None:
        options.choice("--scope", scope, ("diego", "all"))
        judging = {
            "policy": policy or "tas",
            "release": release,
            "inventory": inventory or (),
            "ca": ca or (),
            "keylog": keylog,
            "strict": strict,
            "limits": options.limits(limit),
            "since": moment("--since", since),
            "until": moment("--until", until),
            "linktype": options.number("--linktype", linktype, 65_535),
        }
        _finding(name, captures or [], {**judging, "scope": scope}, store, audit)
        return
    for rule in _pages.rules():
        if rule.name == name:
            typer.echo(_pages.rule_page(rule).as_text(), nl=False)
            return
    loaded = load_policy(policy or shipped.names())
    if not name:
        typer.echo(_pages.overview(loaded.all_paths), nl=False)
        return
    rows = [path for path in loaded.all_paths if name.isdecimal() and str(path.row) == name]
    if rows and policy is None:
        rows = [path for path in rows if path.policy == shipped.BASE]  # each source page numbers its rows from 1
    for path in [loaded.path(name)] if name in loaded.by_id else rows:
        typer.echo(_pages.path_text(path, loaded), nl=False)
    if name in loaded.by_id or rows:
        return
    close = close_names(name, [*(rule.name for rule in _pages.rules()), *loaded.by_id])
    hint = f"did you mean {' or '.join(close)}?" if close else "auditor explain lists all names"
    if _FINDING.fullmatch(name):
        hint = f"a finding is looked up in captures or in a store: auditor explain {name} CAPTURE..., or --store STORE"
    raise ConfigError(name, "no rule or path has this name", hint=hint)


_FINDING = re.compile(r"F-[0-9a-f]+|[0-9a-f]{32}")


def _finding(
    name: str,
    captures: list[str],
    judging: dict[str, Any],
    store: str | None,
    audit: str,
) -> None:
    from auditor.errors import ConfigError
    from auditor.report._finding import finding_text

    if store is not None:
        from auditor.jobs.keep import restore
        from auditor.store.history import open_history

        with open_history(store) as history:
            row = history.find(audit)
            found = restore(history, row)
            mark = name.removeprefix("F-")
            there = found.findings["fingerprint"].astype(str).str.startswith(mark).any()
            other = None if there else history.last_with(mark)
            if other is not None and other != row.audit:
                raise ConfigError(
                    name, f"audit {row.audit} has no such finding", hint=f"audit {other} has it: --audit {other}"
                )
    else:
        from auditor import api

        found = api.audit(captures, **judging).audit
    typer.echo(finding_text(found, name), nl=False)
