"""A bundle that was altered is caught: every field of it, by the packets, by the manifest, by the signature, or by the captures it was cut from."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

import auditor
from auditor.cli import main
from auditor.slices import verify
from tests.conftest import absent

CAPTURE = "captures/sample/intruder.bridge.pcap.zst"
INVENTORY = "captures/sample/intruder.inventory.yml"
QUIET = ("--progress", "never", "--index", "none", "--quiet")


@pytest.fixture(scope="module")
def rules():
    report = auditor.audit(CAPTURE, inventory=INVENTORY)
    found = report.findings
    at_nats = found[found["title"].str.contains("4222")]["id"].iloc[0]
    return {"nats": at_nats, "stolen": found[found["rule"] == "stolen-credential"]["id"].iloc[0]}


@pytest.fixture(scope="module")
def case(rules, tmp_path_factory):
    """A case of two findings."""
    out = tmp_path_factory.mktemp("case") / "case.zip"
    named = [word for each in rules.values() for word in ("--finding", each)]
    assert main(["slice", CAPTURE, "--inventory", INVENTORY, *named, "-w", str(out), "--bundle", *QUIET]) == 0
    return out


@pytest.fixture(scope="module")
def judged(case, tmp_path_factory):
    """The verdict of the case, and what its slice says now."""
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(case) as archive:
        archive.extractall(folder)
    verdict = json.loads((folder / "verdict.json").read_text())
    files = [[str(folder / each) for each in verdict[kind]] for kind in ("policies", "inventories")]
    report = auditor.audit(folder / "slice.pcapng", policy=files[0], inventory=files[1])
    return verdict, json.loads(report.to_json())


def leaves(value, path=()):
    """Every place in a tree that holds something that is no tree."""
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from leaves(each, (*path, key))
    elif isinstance(value, list) and value:
        for key, each in enumerate(value):
            yield from leaves(each, (*path, key))
    else:
        yield path


def altered(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"{value}x" if isinstance(value, str) else "something"


def put(tree, path, value):
    for key in path[:-1]:
        tree = tree[key]
    tree[path[-1]] = value


def get(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def test_what_nobody_altered_is_verified(judged):
    verdict, report = judged
    wrong, unshown = verify.differences(verdict, report)
    assert wrong == []
    assert list(verify.same_deciders(verdict, report)) == []
    assert {place.rpartition(": ")[2] for place in unshown} <= {"vantages", "detail", "evidence", "title", "findings"}


def test_every_altered_field_of_connections_and_findings_is_caught_and_named(judged):
    """With a manifest made again: no hash helps here. What the slice alone cannot show is named, so it is no secret that it is not shown."""
    verdict, report = judged
    _, unshown = verify.differences(verdict, report)
    checked = 0
    for kind in ("connections", "findings"):
        for path in leaves(verdict[kind]):
            lie = copy.deepcopy(verdict)
            put(lie[kind], path, altered(get(verdict[kind], path)))
            wrong, still = verify.differences(lie, report)
            field = ".".join(str(each) for each in path[1:] if isinstance(each, str))
            named = any(place.rpartition(": ")[2] and field.startswith(place.rpartition(": ")[2]) for place in unshown)
            assert wrong or (named and still), (kind, path)
            checked += bool(wrong)
    assert checked > 300


@pytest.mark.parametrize("kind", ["connections", "findings"])
def test_what_was_left_out_or_put_in_is_caught(kind, judged):
    verdict, report = judged
    less = copy.deepcopy(verdict)
    gone = less[kind].pop()
    if kind == "connections":
        assert any("left out" in line for line in verify.differences(less, report)[0])
    more = copy.deepcopy(verdict)
    extra = copy.deepcopy(gone)
    extra["fingerprint" if kind == "findings" else "start"] = "2026-01-01T00:00:00Z"
    more[kind].append(extra)
    assert any("not found again" in line for line in verify.differences(more, report)[0])


def test_frames_hold_the_numbers_of_the_original(case, judged, tmp_path):
    verdict, _ = judged
    with zipfile.ZipFile(case) as archive:
        archive.extract("slice.pcapng", tmp_path)
        readme = archive.read("README.txt").decode()
    slice_ = tmp_path / "slice.pcapng"
    assert list(verify.misplaced(slice_, verdict)) == []
    assert list(verify.against(slice_, verdict, [Path(CAPTURE)])) == []
    for place in range(0, len(verdict["frames"]), 40):
        lie = copy.deepcopy(verdict)
        lie["frames"][place][1] += 1
        assert list(verify.misplaced(slice_, lie))
        assert list(verify.against(slice_, lie, [Path(CAPTURE)]))
    digest = hashlib.sha256(Path(CAPTURE).read_bytes()).hexdigest()
    assert verdict["captures"][0]["sha256"] == digest
    assert digest in readme
    assert all(word in readme for word in ("sha256sum -c", "ssh-keygen -Y verify", "tshark -r", "--against"))
    assert any("none of those given" in line for line in verify.against(slice_, verdict, [Path(INVENTORY)]))


def rewritten(case, out, **texts):
    """The bundle with other files, and a manifest that fits them."""
    with zipfile.ZipFile(case) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content |= {name.replace("__", "."): text for name, text in texts.items()}
    sums = {name: hashlib.sha256(text).hexdigest() for name, text in content.items() if not name.startswith("MANIFEST")}
    content["MANIFEST.sha256"] = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)


def test_what_only_a_signature_could_hold_is_named_in_the_last_line(case, judged, tmp_path, capsys):
    """Every field of the verdict is caught when it is altered, or it is named."""
    verdict, report = judged
    _, unshown = verify.differences(verdict, report)
    assert main(["slice", "--verify", str(case), "--quiet"]) == 0
    said, _, left = capsys.readouterr().out.rstrip("\n").splitlines()[-1].partition(": ")
    assert said == "verified; not shown by its packets, and held by no signature"
    named = left.split(", ")
    assert named[-1] == f"{len(unshown)} fields of connections and findings"
    held = {"schema", "connections", "findings", "frames", "alone", "policies", "inventories"}
    assert set(named[:-1]) == {
        *(f"audit.{name}" for name in verdict["audit"] if name not in held),
        *(name for name in verdict if name not in {*held, "audit"}),
        *("audit.policies.tas", "audit.inventories.path"),
    }
    assert {"audit.started", "captures", "title"} <= set(named)
    for kind, place in (("policies", 1), ("inventories", 0)):
        for field in ("sha256", "version", "name"):
            lie = copy.deepcopy(verdict)
            if field in lie["audit"][kind][place]:
                lie["audit"][kind][place][field] = "0" * 64
                assert list(verify.same_deciders(lie, report)), (kind, field)
    lie = copy.deepcopy(verdict)
    lie["audit"]["policies"][1]["sha256"] = "0" * 64
    rewritten(case, tmp_path / "lie.zip", verdict__json=json.dumps(lie).encode())
    assert main(["slice", "--verify", str(tmp_path / "lie.zip"), "--quiet"]) == 1
    assert "verified" not in capsys.readouterr().out


def test_times_and_severities_are_caught_from_the_command_line(case, judged, tmp_path, capsys):
    verdict, _ = judged
    lie = copy.deepcopy(verdict)
    lie["findings"][0]["severity"] = "info"
    lie["connections"][0]["start"] = "2026-01-01T00:00:00Z"
    out = tmp_path / "lie.zip"
    rewritten(case, out, verdict__json=json.dumps(lie).encode())
    assert main(["slice", "--verify", str(out), "--quiet"]) == 1
    told = capsys.readouterr().out
    assert "severity was info, is critical" in told
    assert "is not found again" in told
    assert main(["slice", "--verify", str(case), "--quiet", "--against", CAPTURE]) == 0
    assert capsys.readouterr().out.startswith("verified; ")


def test_a_signature_holds_all_of_it(rules, tmp_path, capsys):
    if not shutil.which("ssh-keygen"):
        absent("ssh-keygen is not installed (Debian package openssh-client)")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    out, signers = tmp_path / "b.zip", tmp_path / "signers"
    signers.write_text(f"analyst@example {key.with_suffix('.pub').read_text()}")
    made = ["slice", CAPTURE, "--inventory", INVENTORY, "--finding", rules["nats"], "-w", str(out), "--bundle"]
    assert main([*made, "--sign", str(key), *QUIET]) == 0
    assert main(["slice", "--verify", str(out), "--signers", str(signers)]) == 0
    told = capsys.readouterr()
    assert "analyst@example" in told.err
    assert told.out == "verified\n"
    assert main(["slice", "--verify", str(out), "--quiet"]) == 0
    assert "whose signer nobody named (--signers): audit.finished, " in capsys.readouterr().out
    verdict = json.loads(zipfile.ZipFile(out).read("verdict.json"))
    verdict["audit"]["started"] = "2026-01-01T00:00:00Z"  # no packet shows it
    rewritten(out, tmp_path / "lie.zip", verdict__json=json.dumps(verdict).encode())
    assert main(["slice", "--verify", str(tmp_path / "lie.zip"), "--quiet"]) == 1
    assert "signature: " in capsys.readouterr().out
    signers.write_text(f"somebody@example {'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI' + 'A' * 43}\n")
    assert main(["slice", "--verify", str(out), "--signers", str(signers), "--quiet"]) == 1


def test_a_redacted_bundle_has_its_own_exit_status(rules, tmp_path, capsys):
    out = tmp_path / "b.zip"
    made = ["slice", CAPTURE, "--inventory", INVENTORY, "--finding", rules["nats"], "-w", str(out), "--bundle"]
    assert main([*made, "--redact", *QUIET]) == 0
    assert main(["slice", "--verify", str(out), "--quiet", "--against", CAPTURE]) == 4
    assert capsys.readouterr().out.startswith("redacted, otherwise the same; ")


def test_a_bundle_from_the_store_is_judged_by_what_decided_then(rules, tmp_path, capsys):
    store = tmp_path / "store"
    auditor.audit(CAPTURE, inventory=INVENTORY, store=store)
    out = tmp_path / "b.zip"
    assert main(["slice", "--store", str(store), "--finding", rules["nats"], "-w", str(out), "--bundle", *QUIET]) == 0
    assert main(["slice", "--verify", str(out), "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("verified; ")
    verdict = json.loads(zipfile.ZipFile(out).read("verdict.json"))
    assert verdict["captures"][0]["sha256"]
    assert len(verdict["inventories"]) == 1
