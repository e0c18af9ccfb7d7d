"""``auditor slice``: the packets of a finding or a connection, as a capture or as a verifiable bundle."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer

from auditor.cli import _bundles as bundling
from auditor.cli import _options as options
from auditor.cli import complain
from auditor.cli._filters import moment
from auditor.cli._progress import meter
from auditor.errors import ConfigError, InputError
from auditor.wire.text import escape

if TYPE_CHECKING:
    from auditor.api import Report
    from auditor.slices.bundle import Contents
    from auditor.slices.wanted import Choice

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

Captures = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CAPTURE]...",
        help="Files, folders, globs, sample:NAME. Default with --store: the captures of the audit.",
    ),
]


def _option(name: str, metavar: str, says: str, *more: str) -> Any:
    return typer.Option(name, *more, metavar=metavar, help=says, show_default=False)


@app.command()
def slice(  # noqa: A001  # the command's name
    captures: Captures = None,
    finding: Annotated[
        list[str] | None,
        _option("--finding", "ID", "A finding's id or fingerprint, or its first characters; repeatable."),
    ] = None,
    connection: Annotated[
        list[str] | None, _option("--connection", "ID", "A connection's id, or its first characters; repeatable.")
    ] = None,
    output: Annotated[Path | None, _option("--write", "OUT", "File to write: the pcapng, or the bundle.", "-w")] = None,
    bundle: Annotated[
        bool,
        typer.Option("--bundle", help="Write a ZIP with packets, verdict, policy, inventory and hashes."),
    ] = False,
    redact: Annotated[
        bool, typer.Option("--redact", help="Overwrite payload outside handshakes; lengths do not change.")
    ] = False,
    verify: Annotated[
        Path | None, _option("--verify", "BUNDLE", "Check a bundle: hashes, and a new audit with the same result.")
    ] = None,
    against: Annotated[
        list[str] | None,
        _option(
            "--against",
            "CAPTURE",
            "With --verify: also audit the captures that the bundle was cut from, and compare all of it with them; repeatable.",
        ),
    ] = None,
    sign: Annotated[
        Path | None, _option("--sign", "KEY", "With --bundle: sign the manifest with this SSH key (ssh-keygen -Y).")
    ] = None,
    signers: Annotated[
        Path | None,
        _option("--signers", "FILE", "With --verify: accepted signers (ssh-keygen's ALLOWED SIGNERS file)."),
    ] = None,
    hash: Annotated[  # noqa: A002  # the option's name
        bool, typer.Option("--hash", help="Record the SHA-256 of the captures; a bundle always has it.")
    ] = False,
    policy: options.Policies = None,
    release: options.Release = None,
    inventory: options.Inventories = None,
    ca: options.Cas = None,
    keylog: options.Keylog = None,
    strict: options.Strict = False,
    since: options.Since = None,
    until: options.Until = None,
    scope: Annotated[
        str, typer.Option("--scope", metavar="diego|all", help="As for the audit that found it.")
    ] = "diego",
    linktype: options.Linktype = None,
    limit: options.LimitValues = None,
    from_: Annotated[
        list[str] | None,
        _option(
            "--from", "agent://HOST[:PORT]", "With --store: ask this agent for the packets in its ring; repeatable."
        ),
    ] = None,
    credentials: Annotated[
        Path | None,
        _option("--credentials", "DIR", "With --from: folder of ca.pem, cert.pem and key.pem."),
    ] = None,
    store: Annotated[
        str | None, _option("--store", "STORE", "Look up the ids in this store instead of auditing the captures again.")
    ] = None,
    audit: Annotated[str, typer.Option("--audit", metavar="AUDIT", help="Which audit of the store.")] = "latest",
    index: Annotated[
        str | None, _option("--index", "DIR|none", "Folder for indexes of captures. Default: the user's cache.")
    ] = None,
    quiet: options.Quiet = False,
    progress: options.Progress = "auto",
) -> None:
    """Write the packets of a finding or a connection, from every capture that has them, as a pcapng.

    Each packet's comment names its finding, its connection and its place in the capture. A slice holds all content of its packets, unless --redact;
    it never has TLS keys. The first slice of a capture makes an index; the next ones read only what they need.
    Exit status: 0; 1 where --verify finds a difference; 2 for wrong arguments or a damaged bundle; 3 where --verify finds none, but could not check
    everything; 4 where a bundle is redacted, and all else is equal.
    """
    options.choice("--scope", scope, ("diego", "all"))
    if verify is not None:
        _verify(verify, against or [], signers, quiet=quiet)
    if sign is not None and not bundle:
        raise ConfigError("--sign", "is for bundles only", hint="add --bundle")
    if not (finding or connection):
        raise ConfigError(
            "--finding", "no finding and no connection is named", hint="name a --finding or a --connection"
        )
    if output is None:
        raise ConfigError("--write", "no output file is named", hint="name a file with -w OUT")
    if not captures and store is None:
        raise ConfigError("CAPTURE", "is missing", hint="name the captures, or a --store")
    _asked(from_ or [], credentials, store, captures)
    link = options.number("--linktype", linktype, 65_535)
    limits = options.limits(limit)
    from auditor.slices import cut as cutting
    from auditor.slices import index as indexes

    with (
        options.destination("pcapng", output) as target,
        meter(progress, quiet=quiet) as tell,
        contextlib.ExitStack() as stack,
    ):
        report: Report | None = None
        deciders: bundling.Deciders | None = None
        if store is not None:
            report, choice, paths, deciders = _from_store(store, audit, finding or [], connection or [], captures)
            if from_ and credentials is not None:
                place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="auditor-slice-")))
                paths, index = _fetched(from_, choice, credentials, place, quiet=quiet), "none"
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
                    keylog=keylog,
                    strict=strict,
                    since=moment("--since", since),
                    until=moment("--until", until),
                    scope="all" if scope == "all" else "diego",
                    hash=bundle or hash,
                    **told,
                )
            else:
                report = api.connections(captures or [], evidence=False, **told)
            choice = _chosen(report.audit.connections, report.audit.findings, finding or [], connection or [])
            paths = [Path(each) for each in report.audit.captures["path"]]
        tell.done()
        for path in paths:
            if str(path).startswith("agent:"):
                says = "an agent saw it, which may have its packets in its ring"
                raise ConfigError(f"agent {path.name}", says, hint="--from agent://HOST --credentials DIR")
            if not path.is_file():
                raise ConfigError(
                    str(path),
                    "is not a file; a slice needs one, because it reads it again",
                    hint="save it to a file first",
                )
        folder = None if index == "none" else Path(index) if index else indexes.default_folder()
        with _packets(target, bundle=bundle) as (packets, file):
            done = cutting.cut(
                paths,
                choice.connections,
                packets,
                redact=redact,
                comment=bundling.comment_of(choice.title, redact=redact),
                link_type=link,
                limits=limits,
                index=folder,
            )
            packets.flush()
            if not done.frames:
                raise ConfigError("CAPTURE", "has none of its packets", hint="name the captures that it was found in")
            if bundle and report is not None:
                made_of = deciders or _given(report, policy, release)
                assert file is not None  # noqa: S101  # a bundle needs a file of packets
                verdict = bundling.verdict_of(report, choice, done, redact=redact, signed=sign is not None)
                bundling.write(cast("IO[bytes]", target), file, verdict, made_of, sign=sign)
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
            complain(f"{many(missing, 'connection')} of it without a packet in these captures")
        if not redact:
            complain("it holds all captured content, credentials too; --redact overwrites payload")


def _asked(sources: list[str], credentials: Path | None, store: str | None, captures: list[str] | None) -> None:
    """Raises ConfigError where agents cannot be asked so."""
    for each in sources:
        if not each.startswith("agent://"):
            raise ConfigError("--from", f"{each!r} is no agent", hint="agent://HOST, or agent://HOST:PORT")
    if sources and (store is None or captures):
        raise ConfigError("--from", "needs a --store, and no captures", hint="--store STORE --finding ID")
    if bool(sources) != (credentials is not None):
        raise ConfigError("--credentials", "goes with --from agent://HOST", hint="name both")


def _fetched(sources: list[str], choice: Choice, credentials: Path, place: Path, *, quiet: bool) -> list[Path]:
    """The packets that agents have of it, a capture each. Raises InputError where none has any."""
    from auditor.agents.packets import fetch

    found = []
    failed: InputError | None = None
    for k, source in enumerate(dict.fromkeys(sources)):
        path = place / f"{k}-{source.removeprefix('agent://').strip('/').replace('/', '-')}.pcapng"
        try:
            with path.open("wb") as file:
                size = fetch(source, choice.connections, credentials, file)
        except InputError as error:
            failed = error
            if not quiet:
                complain(error)
            continue
        if not quiet:
            complain(f"{source}: {size:,} bytes")
        found.append(path)
    if not found and failed is not None:
        raise failed
    return found


def _chosen(connections: Any, findings: Any, finding: list[str], connection: list[str]) -> Choice:
    from auditor.slices.wanted import choose

    return choose(connections, findings, finding_ids=finding, connection_ids=connection)


def _from_store(
    store: str, audit: str, finding: list[str], connection: list[str], captures: list[str] | None
) -> tuple[Report, Choice, list[Path], bundling.Deciders]:
    """What the store has about it, the captures of that audit unless others are named, and its policies, inventories and waivers."""
    from auditor.api import Report
    from auditor.jobs.keep import restore
    from auditor.store.history import open_history

    with open_history(store) as history:
        row = history.find(audit)
        found = restore(history, row)
        kept = history.deciders(row.audit)
        for name in finding:
            mark = name.removeprefix("F-")
            there = found.findings["fingerprint"].astype(str).str.startswith(mark).any()
            other = history.last_with(mark) if not there else None
            if other is not None and other != row.audit:
                raise ConfigError(
                    name, f"audit {row.audit} has no such finding", hint=f"audit {other} has it: --audit {other}"
                )
    choice = _chosen(found.connections, found.findings, finding, connection)
    paths = [Path(str(each)) for each in captures or found.captures["path"]]
    return Report(found), choice, paths, bundling.kept(kept, found)


@contextlib.contextmanager
def _packets(target: Any, *, bundle: bool) -> Iterator[tuple[Any, Path | None]]:
    """The path of the pcapng: the output itself, or a temporary file that becomes part of the bundle."""
    if not bundle:
        yield target, None
        return
    with tempfile.NamedTemporaryFile(prefix="auditor-slice-", suffix=".pcapng") as file:
        yield file, Path(file.name)


def _given(report: Report, policy: list[str] | None, release: str | None) -> bundling.Deciders:
    """The files used by the audit that was just made."""
    from auditor.policy import shipped
    from auditor.policy.loader import members
    from auditor.slices.bundle import member
    from auditor.slices.verdict import INFERRED

    policies: dict[str, bytes] = {}
    for name in [each for one in policy or [shipped.DEFAULT] for each in members(one)]:
        place = shipped.find(name) or Path(name)
        policies[member(len(policies), place.name)] = place.read_bytes()
    inventories: dict[str, bytes] = {}
    for each in report.info["inventories"]:
        place = Path(each["path"])
        inventories[member(len(inventories), place.name)] = place.read_bytes()
    if not inventories:
        inventories[INFERRED] = bundling.inferred(map(str, report.audit.captures["path"]), policy, release)
    return policies, inventories


REDACTED = 4
"""Exit status: payload was overwritten, and all else is equal."""
NOT_ALL = 3
"""Exit status: everything that could be checked is equal, but some fields could not be checked."""


def _verify(path: Path, against: list[str], signers: Path | None, *, quiet: bool) -> NoReturn:
    """Print what is equal, what differs and what was not checked, and exit."""
    from auditor.slices import bundle as bundles
    from auditor.slices import verify as verifying
    from auditor.wire.text import many

    with tempfile.TemporaryDirectory(prefix="auditor-verify-") as name:
        contents = bundles.unpack(path, Path(name))
        verdict = contents.verdict
        try:
            found, wrong, says = bundling.check(contents, _captures(against))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise InputError(str(path), f"{bundles.VERDICT} is damaged") from error
    held = _signed(contents, signers, wrong)
    for line in wrong:
        typer.echo(escape(line))
    left = [] if held else found.left
    judged = f"{many(len(verdict['connections']), 'connection')} and {many(len(verdict['findings']), 'finding')}"
    if not quiet:
        complain(
            f"{path}: hashes match; {judged} judged again: {found.right:,} of {many(found.all, 'statement')} confirmed"
        )
        for line in says if not wrong else ():
            complain(line)
        if held:
            complain(f"{held}; {many(len(found.left), 'statement')} are confirmed only by the signature")
        elif contents.signature is not None and signers is None:
            complain("it is signed; name accepted signers with --signers")
    if wrong:
        typer.echo(many(len(wrong), "difference"))
        raise typer.Exit(1)
    for line in verifying.grouped(left):
        typer.echo(f"not checked: {escape(line)}")
    same = (
        "redacted, all else is equal"
        if verdict.get("redacted")
        else "verified"
        if not left
        else "the packets confirm it"
    )
    typer.echo(f"{same}; {_unchecked(left, against)}" if left else same)
    raise typer.Exit(REDACTED if verdict.get("redacted") else NOT_ALL if left else 0)


def _captures(named: list[str]) -> list[Path]:
    """Files, and those of samples."""
    from auditor import api

    found = []
    for each in named:
        found += api.sample(each.removeprefix(api.SAMPLE))[0] if each.startswith(api.SAMPLE) else [Path(each)]
    return found


def _unchecked(left: Sequence[str], against: list[str]) -> str:
    """How to check the rest."""
    from auditor.wire.text import many

    rest = many(len(left), "statement")
    if against:
        return f"{rest} of the bundle can be confirmed only by a signature (--signers FILE)"
    return (
        f"{rest} of the bundle were not checked, because they need the captures or a signature: "
        "add --against CAPTURE, or --signers FILE"
    )


def _signed(contents: Contents, signers: Path | None, wrong: list[str]) -> str:
    """The accepted signer, in words; errors of the signature are added to ``wrong``."""
    from auditor.slices import sign as signing

    if contents.signature is None:
        if signers is not None:
            wrong.append("signature: none")
        return ""
    right, says = signing.check(contents.manifest, contents.signature, signers)
    if not right:
        wrong.append(f"signature: {says}")
    return says if right and signers is not None else ""
