"""Bundles of evidence, for ``auditor slice`` and for ``auditor review``: the packets, what was judged, by which files, and what the packets alone say of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from auditor.errors import ConfigError

if TYPE_CHECKING:
    from auditor.api import Report
    from auditor.model.audit import Audit
    from auditor.slices.cut import Slice
    from auditor.slices.wanted import Choice
    from auditor.store.history import Decider

Deciders = tuple[dict[str, bytes], dict[str, bytes]]
"""Policies and inventories: content by file name."""


def kept(deciders: Iterable[Decider], audit: Audit) -> Deciders:
    """The files that decided an audit of a store, in the order they were given."""
    by: dict[str, dict[str, bytes]] = {"policy": {}, "inventory": {}}
    order = {str(each.get("sha256")): at for at, each in enumerate(audit.info.get("policies") or ())}
    for each in sorted(deciders, key=lambda one: order.get(one.sha256, 0)):
        if each.kind in by:
            suffix = "" if each.name.endswith((".yml", ".yaml", ".json", ".csv")) else ".yml"
            by[each.kind][f"{len(by[each.kind]):02d}-{Path(each.name).name}{suffix}"] = each.content
    return by["policy"], by["inventory"]


def title_of(choice: Choice) -> str:
    """What was asked for."""
    return ", ".join(dict.fromkeys(each.says.rstrip(", ") or f"connection {each.id}" for each in choice.connections))


def comment_of(title: str, *, redact: bool) -> str:
    """What stands at the head of a slice."""
    return f"Cut out for {title}." + (" Payload beyond handshakes is overwritten." if redact else "")


def verdict_of(
    report: Report,
    choice: Choice,
    title: str,
    done: Slice,
    *,
    redact: bool,
    asked: Mapping[str, Any],
    moved: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What was judged of the packets. ``moved``: where captures lie now, and where the audit read them."""
    wanted = {each.id for each in choice.connections}
    told = json.loads(report.to_json())
    places = {str(each["path"]): at for at, each in enumerate(told["captures"])}
    moved = moved or {}
    return {
        "title": title,
        "redacted": redact,
        "scope": asked.get("scope") or "diego",
        "release": asked.get("release"),
        "audit": told["audit"],
        "captures": told["captures"],
        "connections": [each for each in told["connections"] if each["id"] in wanted],
        "findings": [each for each in told["findings"] if each["fingerprint"] in choice.findings],
        "inventory": told["summary"]["inventory"],
        "frames": [[places.get(moved.get(path, path), -1), number] for path, number in done.origins],
    }


def write(
    target: IO[bytes], packets: Path, verdict: dict[str, Any], deciders: Deciders, *, sign: Path | None = None
) -> None:
    """The bundle of a slice, with what the slice alone says of every field."""
    from auditor.slices import bundle as bundles
    from auditor.slices import sign as signing
    from auditor.slices import verify as verifying

    policies, inventories = deciders
    with tempfile.TemporaryDirectory(prefix="auditor-bundle-") as folder:
        again = _judged_again(packets, policies, inventories, verdict, Path(folder))
        verdict["alone"] = verifying.outside(verdict, again, verdict["frames"])
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
    return report_of(packets, named[0], named[1], verdict)


def report_of(packets: Path, policies: list[str], inventories: list[str], verdict: Mapping[str, Any]) -> dict[str, Any]:
    """What an audit of a slice says, by these files."""
    from auditor import api

    report = api.audit(
        str(packets),
        policy=policies,
        inventory=inventories,
        release=verdict.get("release"),
        scope="all" if verdict.get("scope") == "all" else "diego",
    )
    told: dict[str, Any] = json.loads(report.to_json())
    return told


def of_finding(
    audit: Audit, deciders: Iterable[Decider], finding: str, places: Mapping[str, str], out: IO[bytes], *, redact: bool
) -> None:
    """The bundle of a finding of a store. ``places``: where its captures lie now, and where the audit read them. Raises AuditorError."""
    from auditor.api import Report
    from auditor.slices import cut as cutting
    from auditor.slices import index as indexes
    from auditor.slices.wanted import choose

    choice = choose(audit.connections, audit.findings, finding_ids=[finding], connection_ids=[])
    title = title_of(choice)
    held = tuple(deciders)
    lost = {str(each["sha256"]): each["path"] for each in audit.info.get("inventories") or () if each.get("sha256")}
    for digest in sorted(lost.keys() - {each.sha256 for each in held}):
        raise ConfigError(finding, f"the store does not hold {lost[digest]}, by which it was judged")
    with tempfile.NamedTemporaryFile(prefix="auditor-slice-", suffix=".pcapng") as file:
        done = cutting.cut(
            [Path(each) for each in places],
            choice.connections,
            file,
            redact=redact,
            comment=comment_of(title, redact=redact),
            index=indexes.default_folder(),
        )
        file.flush()
        if not done.frames:
            raise ConfigError(finding, "no packet of it is in these captures", mend="name their folder with --captures")
        asked = audit.info.get("options") or {}
        verdict = verdict_of(Report(audit), choice, title, done, redact=redact, asked=asked, moved=places)
        write(out, Path(file.name), verdict, kept(held, audit))
