"""Evidence bundles, for ``auditor slice`` and ``auditor review``: the packets, the verdict, the files used, and what an audit of these packets alone says."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from auditor.errors import ConfigError
from auditor.model.version import VERSION
from auditor.slices.bundle import member, readme_is_right
from auditor.slices.verdict import judged, profiles_of, stated

if TYPE_CHECKING:
    from auditor.api import Report
    from auditor.model.audit import Audit
    from auditor.slices.bundle import Contents
    from auditor.slices.cut import Slice
    from auditor.slices.verify import Checked
    from auditor.slices.wanted import Choice
    from auditor.store.history import Decider

Deciders = tuple[dict[str, bytes], dict[str, bytes]]
"""Policies and inventories: content by file name."""


def kept(deciders: Iterable[Decider], audit: Audit) -> Deciders:
    """The files that decided an audit of a store, in the order they were given; a profile is what it is made of."""
    by: dict[str, dict[str, bytes]] = {"policy": {}, "inventory": {}}
    named = audit.info.get("policies") or ()
    order = {str(each.get("sha256")): at for at, each in enumerate(named)}
    profiles = {str(each.get("sha256")) for each in named if each.get("name") in profiles_of(named)}
    for each in sorted(deciders, key=lambda one: order.get(one.sha256, 0)):
        if each.kind in by and each.sha256 not in profiles:
            suffix = "" if each.name.endswith((".yml", ".yaml", ".json", ".csv")) else ".yml"
            by[each.kind][member(len(by[each.kind]), each.name + suffix)] = each.content
    return by["policy"], by["inventory"]


def comment_of(title: str, *, redact: bool) -> str:
    """The comment in the header of a slice."""
    return f"Cut out for {title}." + (" Payload beyond handshakes is overwritten." if redact else "")


def verdict_of(
    report: Report,
    choice: Choice,
    done: Slice,
    *,
    redact: bool,
    signed: bool = False,
    moved: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What was judged of the packets. ``signed``: when, too; ``moved``: where captures lie now, and where the audit read them."""
    told = json.loads(report.to_json())
    places = {str(each["path"]): at for at, each in enumerate(told["captures"])}
    moved = moved or {}
    made = {name: told["audit"][name] for name in ("id", "started", "finished") if name in told["audit"]}
    return {
        **stated(told),
        **judged(told, (each.id for each in choice.connections), choice.findings),
        **({"made": made} if signed else {}),
        "title": choice.title,
        "redacted": redact,
        "witnesses": list(choice.witnesses),
        "frames": [[places.get(moved.get(path, path), -1), number] for path, number in done.origins],
    }


def write(
    target: IO[bytes], packets: Path, verdict: dict[str, Any], deciders: Deciders, *, sign: Path | None = None
) -> None:
    """The bundle of a slice, and which fields the slice alone confirms."""
    from auditor.slices import bundle as bundles
    from auditor.slices import sign as signing
    from auditor.slices import verify as verifying

    policies, inventories = deciders
    with tempfile.TemporaryDirectory(prefix="auditor-bundle-") as folder:
        again = _judged_again(packets, policies, inventories, verdict, Path(folder))
        verdict |= bundles.places(policies, inventories)
        verdict["alone"] = verifying.outside(verdict, again, list(verifying.comments(packets)))
        made = Path(folder) / "bundle.zip"
        signer = None if sign is None else (lambda manifest: signing.sign(manifest, sign))
        bundles.write(made, packets, verdict, policies, inventories, signer)
        with made.open("rb") as file:
            while piece := file.read(1 << 20):
                target.write(piece)


def _judged_again(
    packets: Path, policies: dict[str, bytes], inventories: dict[str, bytes], verdict: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """The report of the slice alone, by the same files."""
    named: list[list[str]] = []
    for kind, files in (("policy", policies), ("inventory", inventories)):
        (folder / kind).mkdir()
        for name, content in files.items():
            (folder / kind / name).write_bytes(content)
        named.append([str(folder / kind / name) for name in files])
    return told_of(report_of([packets], named[0], named[1], verdict))


def report_of(
    captures: list[Path],
    policies: list[str],
    inventories: list[str],
    verdict: Mapping[str, Any],
    *,
    whole: bool = False,
) -> Report:
    """An audit of a slice by these files, with the options of the verdict; ``whole``: of the captures that it was cut from."""
    from auditor import api

    options = verdict["audit"]["options"]
    return api.audit(
        [str(each) for each in captures],
        policy=policies,
        inventory=inventories,
        release=options.get("release"),
        scope=options.get("scope", "diego"),
        strict=bool(options.get("strict", False)),
        linktype=options.get("linktype") if whole else None,
        limits=options.get("limits"),
        since=options.get("since_ns"),
        until=options.get("until_ns"),
        hash=whole,
    )


def told_of(report: Report) -> dict[str, Any]:
    """The JSON report."""
    told: dict[str, Any] = json.loads(report.to_json())
    return told


def inferred(captures: Iterable[str], policy: list[str] | None, release: str | None) -> bytes:
    """The inventory inferred from the captures."""
    from auditor import api
    from auditor.policy.infer import draft
    from auditor.policy.loader import load_policy

    return draft(api.services(list(captures)), load_policy(policy or (), release=release)).encode()


def check(contents: Contents, captures: list[Path]) -> tuple[Checked, list[str], list[str]]:
    """What of a bundle was found again, what is wrong, and in words what was held against ``captures``, which it was cut from."""
    from auditor.slices import verify as verifying
    from auditor.wire.text import many

    verdict = contents.verdict
    files = list(map(str, contents.policies)), list(map(str, contents.inventories))
    told = list(verifying.comments(contents.slice))
    again = told_of(report_of([contents.slice], *files, verdict))
    wrong = [*verifying.misplaced(told, verdict), *verifying.mislabelled(told, verdict)]
    if verdict["version"] == VERSION:
        if not readme_is_right(contents):
            wrong.append("README.txt: says something else than the verdict")
        comment = comment_of(str(verdict["title"]), redact=bool(verdict["redacted"]))
        if not verifying.is_plain(contents.slice, told, comment):
            wrong.append("slice.pcapng: holds something else than the packets, their comments and its title")
    says: list[str] = []
    originals = None
    if captures:
        there, troubles = verifying.ordered_captures(verdict, captures)
        wrong += troubles
        apart = list(verifying.against(contents.slice, verdict, there))
        wrong += apart
        named = [each for each in there if each is not None]
        if not apart and len(named) == len(there):
            guessed = not verdict["audit"]["inventories"] and bool(contents.inventories)
            report = report_of(named, files[0], [] if guessed else files[1], verdict, whole=True)
            originals = verifying.as_named(told_of(report), verdict)
            release = verdict["audit"]["options"].get("release")
            if guessed and contents.inventories[0].read_bytes() != inferred(map(str, named), files[0], release):
                wrong.append(f"{contents.inventories[0].name}: differs from the inventory inferred from the captures")
        frames = len(verdict["frames"])
        what = f"{many(frames, 'packet')} are those of {', '.join(map(str, named))}, by SHA-256 and one by one"
        if originals is not None:
            says.append(f"{what}; audited whole, every finding and connection of the bundle is told by them, too")
        elif not apart:
            lost = [str(each["path"]) for each, path in zip(verdict["captures"], there, strict=True) if path is None]
            says.append(f"{what}; what rests on other captures was not checked: {', '.join(lost)} not given")
    found = verifying.checked(verdict, again, told, originals, signed=contents.signature is not None)
    if verdict["version"] != VERSION:
        found = replace(found, left=(*found.left, "texts: README, blocks of the slice that are no packets"))
    return found, [*found.wrong, *wrong], says


def of_finding(
    audit: Audit, deciders: Iterable[Decider], finding: str, places: Mapping[str, str], out: IO[bytes], *, redact: bool
) -> None:
    """The bundle of a stored finding. ``places``: where its captures are now, and where the audit read them. Raises AuditorError."""
    from auditor.api import Report
    from auditor.slices import cut as cutting
    from auditor.slices import index as indexes
    from auditor.slices.wanted import choose

    choice = choose(audit.connections, audit.findings, finding_ids=[finding], connection_ids=[])
    held = tuple(deciders)
    lost = {str(each["sha256"]): each["path"] for each in audit.info.get("inventories") or () if each.get("sha256")}
    for digest in sorted(lost.keys() - {each.sha256 for each in held}):
        raise ConfigError(finding, f"the store does not have {lost[digest]}, which the audit used")
    with tempfile.NamedTemporaryFile(prefix="auditor-slice-", suffix=".pcapng") as file:
        done = cutting.cut(
            [Path(each) for each in places],
            choice.connections,
            file,
            redact=redact,
            comment=comment_of(choice.title, redact=redact),
            index=indexes.default_folder(),
        )
        file.flush()
        if not done.frames:
            raise ConfigError(
                finding, "none of its packets is in these captures", hint="name their folder with --captures"
            )
        verdict = verdict_of(Report(audit), choice, done, redact=redact, moved=places)
        write(out, Path(file.name), verdict, kept(held, audit))
