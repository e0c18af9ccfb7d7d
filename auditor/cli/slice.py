"""``auditor slice``: the packets behind a finding or a connection, as a capture or as a bundle that proves itself."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from auditor.cli import _options as options
from auditor.cli import complain
from auditor.cli._progress import meter
from auditor.errors import ConfigError
from auditor.wire.text import many

if TYPE_CHECKING:
    from auditor.api import Report
    from auditor.slices.wanted import Choice

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

Captures = Annotated[
    list[str] | None,
    typer.Argument(metavar="[CAPTURE]...", help="Files, folders, globs, sample:NAME; with --store those of the audit."),
]


def _option(name: str, metavar: str, says: str, *more: str) -> Any:
    return typer.Option(name, *more, metavar=metavar, help=says, show_default=False)


@app.command()
def slice(  # noqa: A001  # it is the command's name
    captures: Captures = None,
    finding: Annotated[
        list[str] | None,
        _option("--finding", "ID", "A finding's id or fingerprint, or its first characters; repeatable."),
    ] = None,
    connection: Annotated[
        list[str] | None, _option("--connection", "ID", "A connection's id, or its first characters; repeatable.")
    ] = None,
    output: Annotated[Path | None, _option("--write", "OUT", "The pcapng, or the bundle.", "-w")] = None,
    bundle: Annotated[
        bool,
        typer.Option("--bundle", help="A ZIP with the verdict, the policy and inventory as they were, and hashes."),
    ] = False,
    redact: Annotated[
        bool, typer.Option("--redact", help="Overwrite payload beyond handshakes; lengths stay as they are.")
    ] = False,
    verify: Annotated[
        Path | None, _option("--verify", "BUNDLE", "Check a bundle's hashes, judge it again and compare.")
    ] = None,
    policy: options.Policies = None,
    release: options.Release = None,
    inventory: options.Inventories = None,
    ca: options.Cas = None,
    scope: Annotated[
        str, typer.Option("--scope", metavar="diego|all", help="As given to the audit that found it.")
    ] = "diego",
    linktype: options.Linktype = None,
    limit: options.LimitValues = None,
    store: Annotated[
        str | None, _option("--store", "STORE", "Look the ids up there instead of auditing the captures again.")
    ] = None,
    audit: Annotated[str, typer.Option("--audit", metavar="AUDIT", help="Which audit of the store.")] = "latest",
    index: Annotated[
        str | None, _option("--index", "DIR|none", "Where indexes of captures are kept; default: the user's cache.")
    ] = None,
    quiet: options.Quiet = False,
    progress: options.Progress = "auto",
) -> None:
    """The packets of a finding or a connection, from every capture that saw them, as a pcapng.

    Each packet's comment names its finding, its connection and its place in the capture. A slice holds what crossed the wire, unless --redact;
    keys are never in it. The first slice of a capture makes an index, and the next ones read only what they need.
    Exit status: 0; 1 where --verify finds a difference; 2 for wrong arguments or a damaged bundle.
    """
    options.choice("--scope", scope, ("diego", "all"))
    if verify is not None:
        _verify(verify, quiet=quiet)
    if not (finding or connection):
        raise ConfigError("--finding", "says nothing about what to cut out", mend="name a --finding or a --connection")
    if output is None:
        raise ConfigError("--write", "where to?", mend="name a file with -w OUT")
    if not captures and store is None:
        raise ConfigError("CAPTURE", "is missing", mend="name the captures, or a --store")
    if bundle and store is not None:
        raise ConfigError(
            "--bundle", "needs the audit itself", mend="name captures, policy and inventory, not a --store"
        )
    link = options.number("--linktype", linktype, 65_535)
    limits = options.limits(limit)
    from auditor.slices import cut as cutting
    from auditor.slices import index as indexes

    with options.destination("pcapng", output) as target, meter(progress, quiet=quiet) as tell:
        report: Report | None = None
        if store is not None:
            choice, paths = _from_store(store, audit, finding or [], connection or [], captures)
        else:
            from auditor import api

            told: dict[str, Any] = {"linktype": link, "limits": limits, "progress": tell}
            if finding or bundle:
                report = api.audit(
                    captures or [],
                    policy=policy or "tas",
                    inventory=inventory or (),
                    release=release,
                    ca=ca or (),
                    scope="all" if scope == "all" else "diego",
                    **told,
                )
            else:
                report = api.connections(captures or [], evidence=False, **told)
            choice = _chosen(report.audit.connections, report.audit.findings, finding or [], connection or [])
            paths = [Path(each) for each in report.audit.captures["path"]]
        tell.done()
        for path in paths:
            if not path.is_file():
                raise ConfigError(
                    str(path), "is not a file, and a slice reads it again", mend="save it to a file first"
                )
        folder = None if index == "none" else Path(index) if index else indexes.default_folder()
        title = ", ".join(
            dict.fromkeys(each.says.rstrip(", ") or f"connection {each.id}" for each in choice.connections)
        )
        with _packets(target, bundle=bundle) as (packets, file):
            done = cutting.cut(
                paths,
                choice.connections,
                packets,
                redact=redact,
                comment=f"Cut out for {title}." + (" Payload beyond handshakes is overwritten." if redact else ""),
                link_type=link,
                limits=limits,
                index=folder,
            )
            packets.flush()
            if not done.frames:
                raise ConfigError("CAPTURE", "holds no packet of it", mend="name the captures it was found in")
            if bundle and report is not None:
                _bundle(target, file, report, choice, title, redact=redact, scope=scope, policy=policy, release=release)
    if not quiet:
        from auditor.wire.text import many

        missing = len(choice.connections) - len(done.connections)
        told_blocks = f", {done.read_blocks} of {done.all_blocks} parts read" if done.all_blocks else ""
        counts = (
            many(done.frames, "packet"),
            many(len(done.connections), "connection"),
            many(len(done.captures), "capture"),
        )
        complain(f"{output}: {counts[0]} of {counts[1]} from {counts[2]}{told_blocks}")
        if missing:
            complain(f"{many(missing, 'connection')} of it have no packet in these captures")
        if not redact:
            complain("it holds what crossed the wire, credentials too (--redact overwrites payload)")


def _chosen(connections: Any, findings: Any, finding: list[str], connection: list[str]) -> Choice:
    from auditor.slices.wanted import choose

    return choose(connections, findings, finding_ids=finding, connection_ids=connection)


def _from_store(
    store: str, audit: str, finding: list[str], connection: list[str], captures: list[str] | None
) -> tuple[Choice, list[Path]]:
    """What the store knows of it, and the captures of that audit unless others are named."""
    from auditor.jobs.keep import restore
    from auditor.store.history import open_history

    with open_history(store) as history:
        found = restore(history, history.find(audit))
    choice = _chosen(found.connections, found.findings, finding, connection)
    return choice, [Path(str(each)) for each in captures or found.captures["path"]]


@contextlib.contextmanager
def _packets(target: Any, *, bundle: bool) -> Iterator[tuple[Any, Path | None]]:
    """Where the pcapng goes: its own place, or a file that becomes a part of the bundle."""
    if not bundle:
        yield target, None
        return
    with tempfile.NamedTemporaryFile(prefix="auditor-slice-", suffix=".pcapng") as file:
        yield file, Path(file.name)


def _bundle(
    target: Any,
    packets: Path | None,
    report: Report,
    choice: Choice,
    title: str,
    *,
    redact: bool,
    scope: str,
    policy: list[str] | None,
    release: str | None,
) -> None:
    from auditor.policy import shipped
    from auditor.policy.loader import members
    from auditor.slices import bundle as bundles

    assert packets is not None  # noqa: S101  # a bundle has its packets in a file
    policies: dict[str, bytes] = {}
    for name in [each for one in policy or [shipped.DEFAULT] for each in members(one)]:
        place = shipped.find(name) or Path(name)
        policies[f"{len(policies):02d}-{place.name}"] = place.read_bytes()
    inventories: dict[str, bytes] = {}
    for each in report.info["inventories"]:
        place = Path(each["path"])
        inventories[f"{len(inventories):02d}-{place.name}"] = place.read_bytes()
    if not inventories:
        # What was guessed from all of the captures cannot be guessed again from a slice.
        inventories["00-inferred.yml"] = _inferred(report, policy, release)
    wanted = {each.id for each in choice.connections}
    kept = json.loads(report.to_json())
    verdict = {
        "title": title,
        "redacted": redact,
        "scope": scope,
        "release": release,
        "audit": kept["audit"],
        "captures": kept["captures"],
        "connections": [each for each in kept["connections"] if each["id"] in wanted],
        "findings": [each for each in kept["findings"] if each["fingerprint"] in choice.findings],
        "inventory": kept["summary"]["inventory"],
    }
    with tempfile.TemporaryDirectory(prefix="auditor-bundle-") as folder:
        made = Path(folder) / "bundle.zip"
        bundles.write(made, packets, verdict, policies, inventories)
        with made.open("rb") as file:
            while piece := file.read(1 << 20):
                target.write(piece)


def _inferred(report: Report, policy: list[str] | None, release: str | None) -> bytes:
    from auditor import api
    from auditor.policy.infer import draft
    from auditor.policy.loader import load_policy

    found = api.services([str(each) for each in report.audit.captures["path"]])
    return draft(found, load_policy(policy or (), release=release)).encode()


def _verify(path: Path, *, quiet: bool) -> NoReturn:
    """Say what is the same and what is not, and exit."""
    from auditor import api
    from auditor.slices import bundle as bundles

    with tempfile.TemporaryDirectory(prefix="auditor-verify-") as name:
        contents = bundles.unpack(path, Path(name))
        verdict = contents.verdict
        report = api.audit(
            str(contents.slice),
            policy=[str(each) for each in contents.policies],
            inventory=[str(each) for each in contents.inventories],
            release=verdict.get("release"),
            scope="all" if verdict.get("scope") == "all" else "diego",
        )
        now = json.loads(report.to_json())
    differences = list(_differences(verdict, now))
    for line in differences:
        typer.echo(line)
    if not quiet:
        complain(
            f"{path}: hashes are right; {many(len(verdict['connections']), 'connection')} and {many(len(verdict['findings']), 'finding')} judged again"
        )
    typer.echo("verified" if not differences else f"{len(differences)} differences")
    raise typer.Exit(1 if differences else 0)


def _differences(was: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    found = {each["id"]: each for each in now["connections"]}
    # One whose start was not captured may lie the other way round, without the rest of its captures: so it has another id.
    by_ends = {_ends(each): each for each in now["connections"]}
    hidden = " (its payload was overwritten)" if was.get("redacted") else ""
    for each in was["connections"]:
        again = found.get(each["id"]) or by_ends.get(_ends(each))
        if again is None:
            yield f"connection {each['id']}: not found again"
            continue
        for key in ("disposition", "paths", "application"):
            if again[key] != each[key]:
                yield f"connection {each['id']}: {key} was {_plain(each[key])}, is {_plain(again[key])}{hidden}"
        before, after = each["authentication"]["verdict"], again["authentication"]["verdict"]
        if before != after:
            yield f"connection {each['id']}: verdict was {before}, is {after}{hidden}"
    prints = {each["fingerprint"] for each in now["findings"]}
    for each in was["findings"]:
        if each["fingerprint"] not in prints:
            yield f"finding {each['id']} ({each['rule']}): not found again{hidden}"


def _ends(connection: dict[str, Any]) -> tuple[Any, ...]:
    ends = ((connection[end]["ip"], connection[end]["port"] or 0) for end in ("originator", "responder"))
    return (*sorted(ends), connection["transport"], connection["start"])


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
