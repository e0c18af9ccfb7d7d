"""A bundle that was altered is caught: every field of it, by the packets, by the manifest, by the signature, or by the captures it was cut from."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import pytest

import auditor
from auditor.cli import main
from auditor.slices import bundle, verify
from auditor.wire import pcapng
from tests.conftest import absent, by_day

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
def redacted(rules, tmp_path_factory):
    """The same case, and payload overwritten."""
    out = tmp_path_factory.mktemp("redacted") / "case.zip"
    named = [word for each in rules.values() for word in ("--finding", each)]
    made = ["slice", CAPTURE, "--inventory", INVENTORY, *named, "-w", str(out), "--bundle", "--redact", *QUIET]
    assert main(made) == 0
    return out


@pytest.fixture(scope="module")
def judged(case, tmp_path_factory):
    return judged_again(case, tmp_path_factory)


@pytest.fixture(scope="module")
def judged_redacted(redacted, tmp_path_factory):
    return judged_again(redacted, tmp_path_factory)


def judged_again(bundle, tmp_path_factory):
    """The verdict of a bundle, what its slice says now, and the comments of its packets."""
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(folder)
    verdict = json.loads((folder / "verdict.json").read_text())
    files = [[str(folder / each) for each in verdict[kind]] for kind in ("policies", "inventories")]
    report = auditor.audit(folder / "slice.pcapng", policy=files[0], inventory=files[1])
    return verdict, json.loads(report.to_json()), list(verify.comments(folder / "slice.pcapng"))


@pytest.fixture(scope="module")
def originals():
    """What the capture says that the case was cut from."""
    return json.loads(auditor.audit(CAPTURE, inventory=INVENTORY, hash=True).to_json())


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


def test_what_nobody_altered_is_found_again(judged, originals):
    verdict, report, told = judged
    found = verify.checked(verdict, report, told)
    assert found.wrong == ()
    assert list(verify.misplaced(told, verdict)) == []
    assert all(place.startswith("captures.") for place in found.left)
    whole = verify.checked(verdict, report, told, originals)
    assert (whole.wrong, whole.left) == ((), ())
    assert whole.right == found.right + len(found.left)


def test_the_packets_of_the_peers_are_in_the_bundle(judged):
    """So that it shows by itself whose certificate the stranger has."""
    verdict, _, told = judged
    assert len(verdict["witnesses"]) == 2
    assert any("witness of finding F-" in each for each in told)
    assert verdict["alone"] == {}
    [stolen] = [each for each in verdict["findings"] if each["rule"] == "stolen-credential"]
    assert stolen["title"].endswith("of diego_cell/0, diego_cell/1")


def nodes(value, path=()):
    """Every place in a tree but its root."""
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(each, dict | list):
            yield from nodes(each, (*path, key))


def lies(verdict):
    """Each node of a verdict altered, deleted, and put in once more with something altered: what, and how to make it."""
    for path in nodes(verdict):
        if path[0] in ("schema", "policies", "inventories"):
            continue  # test_files_that_are_not_there_or_not_named_are_no_bundle
        ways = ["altered", "deleted", *(["doubled"] if isinstance(path[-1], int) else [])]
        yield from ((path, way) for way in ways)


def lie_of(verdict, path, way):
    lie = {**verdict, path[0]: copy.deepcopy(verdict[path[0]])}
    value = get(lie, path)
    within = next(iter(leaves(value)), ()) if isinstance(value, dict | list) else ()
    if way == "altered":
        put(lie, (*path, *within), altered(get(value, within)))
    elif way == "deleted":
        del get(lie, path[:-1])[path[-1]]
    else:
        other = copy.deepcopy(value)
        if within:
            put(other, within, altered(get(other, within)))
        get(lie, path[:-1]).insert(path[-1], other if within else altered(other))
    return lie


def told_of(lie, verdict, report, told, originals=None, *, signed=False):
    """What a bundle with this verdict is told of: "damaged", "wrong", or "named" where all that was altered is named as not checked."""
    if bundle.ALWAYS - set(lie):
        return "damaged"
    try:
        if list(verify.misplaced(told, lie)) or list(verify.mislabelled(told, lie)):
            return "wrong"
        found = verify.checked(lie, report, told, originals, signed=signed)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return "damaged"
    if found.wrong:
        return "wrong"
    was, now = verify.statements(verdict), verify.statements(lie)
    apart = {place for place in {*was, *now} if was.get(place, lie) != now.get(place, lie)}
    assert apart, "nothing was altered that is looked at"
    # Of a list that is now empty, or has an element less, the rest is named.
    assert all(place in found.left or any(is_near(place, each) for each in found.left) for place in apart), apart
    return "named"


def is_near(place, other):
    return place.startswith("captures.") and other.startswith(place.rpartition(".")[0])


@pytest.mark.parametrize("kind", ["unsigned", "signed", "redacted"])
@pytest.mark.parametrize("whole", [False, True], ids=["alone", "against"])
def test_no_altered_statement_goes_through_as_verified(kind, whole, request, originals):
    """With a manifest made again: no hash helps here. Every node of the verdict, one after the other, by night; a part of them by day."""
    verdict, report, told = request.getfixturevalue("judged_redacted" if kind == "redacted" else "judged")
    if kind == "signed":
        verdict = {
            **verdict,
            "made": {"finished": "2026-12-01T00:00:01Z", "id": "x", "started": "2026-12-01T00:00:00Z"},
        }
    every = list(lies(verdict))
    telling = [each for each in every if each[0][0] not in ("frames", "connections", "alone")]
    rest = [each for each in every if each[0][0] in ("frames", "connections", "alone")]
    named = set()
    for path, way in [*by_day(telling, 17), *by_day(rest, 307)]:
        lie = lie_of(verdict, path, way)
        try:
            outcome = told_of(lie, verdict, report, told, originals if whole else None, signed=kind == "signed")
        except AssertionError as error:
            raise AssertionError(f"{way}: {'.'.join(map(str, path))}: {error}") from None
        if outcome == "named":
            named.add(path[0])
    only_signature = {"version", "made"}
    may = only_signature if whole else {*only_signature, "captures"}
    if kind == "redacted" and not whole:
        may |= {"connections", "findings"}  # what rests on the payload that is not there
    assert named <= may


@pytest.mark.parametrize("whole", [False, True], ids=["alone", "against"])
@pytest.mark.parametrize("field", ["severity", "title", "evidence"])
def test_the_true_value_beside_a_lie_does_not_help(field, whole, judged, originals):
    verdict, report, told = judged
    lie = copy.deepcopy(verdict)
    place = f"finding {lie['findings'][0]['fingerprint']}: {field}"
    lie["alone"] = {place: verify.statements(verdict)[place]}
    lie["findings"][0][field] = "info"
    found = verify.checked(lie, report, told, originals if whole else None)
    assert [line.split(" was")[0] for line in found.wrong] == ([place] if whole else [])
    assert (place in found.left) is not whole or whole
    lie["findings"][0].pop(field)
    assert verify.checked(lie, report, told, originals if whole else None).wrong


def test_a_second_copy_before_the_true_one_is_a_difference(case, judged, tmp_path, capsys):
    verdict, report, told = judged
    for kind, field in (("connections", "disposition"), ("findings", "severity")):
        lie = copy.deepcopy(verdict)
        lie[kind].insert(0, {**copy.deepcopy(lie[kind][0]), field: "x"})
        assert any("too" in line for line in verify.checked(lie, report, told).wrong)
    text = json.dumps(verdict).replace('"severity": "', '"severity": "info", "severity": "', 1)
    rewritten(case, tmp_path / "lie.zip", verdict__json=text.encode())
    assert main(["slice", "--verify", str(tmp_path / "lie.zip"), "--quiet"]) == 2
    assert "verdict.json is damaged" in capsys.readouterr().err


def test_a_name_that_looks_like_a_place_hides_nothing(judged):
    verdict, report, told = judged
    lie = {**verdict, "audit": {"policies.0.version": "x", **verdict["audit"]}}
    assert verify.checked(lie, report, told).wrong
    lie = copy.deepcopy(verdict)
    lie["connections"][0]["tls"] = {"version.x": 1, **(lie["connections"][0]["tls"] or {})}
    assert verify.checked(lie, report, told).wrong


@pytest.mark.parametrize("what", ["time", "length", "block", "comment", "interface"])
def test_a_packet_of_the_slice_that_was_altered_is_caught(what, case, judged, tmp_path):
    """By a nanosecond, too; the audit of the slice sees microseconds, and not what a frame had beyond its end."""
    verdict, _, told = judged
    with zipfile.ZipFile(case) as archive:
        data = bytearray(archive.read("slice.pcapng"))
    first = next(at for at, kind, _ in blocks(data) if kind == pcapng.EPB)
    if what == "time":
        data[first + 16] ^= 1
    elif what == "length":
        data[first + 25] ^= 1
    elif what == "block":
        data += struct.pack("<IIII", 0x0BAD, 16, 7, 16)
    elif what == "comment":
        data[: len(data)] = data.replace(b"Cut out for", b"Cut off for", 1)
    else:
        data[: len(data)] = data.replace(b"intruder.bridge.pcap.zst", b"intruder.bridge.pcap.zsT", 1)
    slice_ = tmp_path / "slice.pcapng"
    slice_.write_bytes(data)
    comment = f"Cut out for {verdict['title']}."
    if what in ("block", "comment"):
        assert not verify.is_plain(slice_, told, comment)
    else:
        apart = list(verify.against(slice_, verdict, [Path(CAPTURE)]))
        assert apart
        assert {"time": "its time, by 1 ns", "length": "its original length", "interface": "its interface"}[
            what
        ] in apart[0]


def blocks(data):
    """Where the blocks of a pcapng begin, what they are, how long they are."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        yield at, kind, size
        at += size


@pytest.mark.parametrize("path", [("schema",), ("policies", 0), ("policies", 3), ("inventories", 0)])
def test_files_that_are_not_there_or_not_named_are_no_bundle(case, judged, tmp_path, path, capsys):
    verdict, _, _ = judged
    others = [get(verdict, path), *([verdict["policies"][1]] if path[0] == "policies" else ["x"])]
    for other in (f"{others[0]}x", others[1]):
        lie = copy.deepcopy(verdict)
        put(lie, path, other)
        rewritten(case, tmp_path / "lie.zip", verdict__json=json.dumps(lie).encode())
        assert main(["slice", "--verify", str(tmp_path / "lie.zip"), "--quiet"]) == 2
        assert "verified" not in capsys.readouterr().out


def test_other_texts_of_a_bundle_are_held_against_the_verdict(case, judged, tmp_path, capsys):
    verdict, _, told = judged
    assert list(verify.mislabelled(told, verdict)) == []
    other = [
        told[0].replace("witness of ", ""),
        told[1].replace(" (", " (x"),
        told[2].replace("connection ", "connection 0"),
    ]
    assert len(list(verify.mislabelled(other, verdict))) == 3
    rewritten(case, tmp_path / "lie.zip", README__txt=b"All is well.")
    assert main(["slice", "--verify", str(tmp_path / "lie.zip"), "--quiet"]) == 1
    assert "README.txt: says something else" in capsys.readouterr().out
    rewritten(case, tmp_path / "lie.zip", note__txt=b"All is well.")
    assert main(["slice", "--verify", str(tmp_path / "lie.zip"), "--quiet"]) == 2


def test_what_was_put_beside_the_verdict_is_told(judged, originals):
    verdict, report, told = judged
    for place, value in (("comment", "trust me"), ("alone", {"title": "x"}), ("witnesses", [])):
        assert verify.checked({**verdict, place: value}, report, told, originals).wrong
    more = {**verdict, "made": {"started": "2026-01-01T00:00:00Z"}}
    assert any("only a signed bundle" in line for line in verify.checked(more, report, told, originals).wrong)
    optioned = {**verdict, "audit": {**verdict["audit"], "options": {"strict": True}}}
    found = verify.checked(optioned, report, told, originals)
    assert (found.wrong, found.left) == ((), ("audit.options.strict",))
    for name, value in (("strict", False), ("other", 1)):
        optioned = {**verdict, "audit": {**verdict["audit"], "options": {name: value}}}
        assert any(f"audit.options.{name}" in line for line in verify.checked(optioned, report, told).wrong)


@pytest.mark.parametrize("kind", ["connections", "findings"])
def test_what_was_left_out_or_put_in_is_caught(kind, judged):
    verdict, report, told = judged
    less = copy.deepcopy(verdict)
    gone = less[kind].pop()
    if kind == "connections":
        assert any("missing in the verdict" in line for line in verify.checked(less, report, told).wrong)
    more = copy.deepcopy(verdict)
    extra = copy.deepcopy(gone)
    extra["fingerprint" if kind == "findings" else "start"] = "2026-01-01T00:00:00Z"
    more[kind].append(extra)
    assert any("not found now" in line for line in verify.checked(more, report, told).wrong)


def test_frames_hold_the_numbers_of_the_original(case, judged, tmp_path):
    verdict, _, told = judged
    with zipfile.ZipFile(case) as archive:
        archive.extract("slice.pcapng", tmp_path)
        readme = archive.read("README.txt").decode()
    slice_ = tmp_path / "slice.pcapng"
    assert list(verify.misplaced(told, verdict)) == []
    assert list(verify.against(slice_, verdict, [Path(CAPTURE)])) == []
    for place in range(0, len(verdict["frames"]), 40):
        lie = copy.deepcopy(verdict)
        lie["frames"][place][1] += 1
        assert list(verify.misplaced(told, lie))
        assert list(verify.against(slice_, lie, [Path(CAPTURE)]))
    digest = hashlib.sha256(Path(CAPTURE).read_bytes()).hexdigest()
    assert verdict["captures"][0]["sha256"] == digest
    assert digest in readme
    assert all(
        word in readme for word in ("sha256sum -c", "ssh-keygen -Y verify", "tshark -r", "--against", "accidental")
    )
    assert any("none of the given captures" in line for line in verify.against(slice_, verdict, [None]))


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


def test_a_bundle_that_nothing_vouches_for_is_not_called_verified(case, tmp_path, capsys):
    assert main(["slice", "--verify", str(case), "--quiet"]) == 3
    *names, last = capsys.readouterr().out.splitlines()
    assert last.startswith("the packets confirm it; 14 statements of the bundle were not checked")
    assert "--against CAPTURE, or --signers" in last
    assert "sha256" in names[0]
    assert names[0].startswith("not checked: captures.0: ")
    assert main(["slice", "--verify", str(case), "--against", CAPTURE]) == 0
    told = capsys.readouterr()
    assert told.out == "verified\n"
    assert f"packets are those of {CAPTURE}, by SHA-256 and one by one; audited whole" in told.err
    assert main(["slice", "--verify", str(case), "--quiet", "--against", "sample:intruder"]) == 0
    capsys.readouterr()
    assert main(["slice", "--verify", str(case), "--quiet", "--against", INVENTORY]) == 1
    assert "none of the given captures has the SHA-256 of intruder.bridge.pcap.zst" in capsys.readouterr().out


def test_times_and_severities_are_caught_from_the_command_line(case, judged, tmp_path, capsys):
    verdict, _, _ = judged
    lie = copy.deepcopy(verdict)
    lie["findings"][0]["severity"] = "info"
    lie["connections"][0]["start"] = "2026-01-01T00:00:00Z"
    out = tmp_path / "lie.zip"
    rewritten(case, out, verdict__json=json.dumps(lie).encode())
    assert main(["slice", "--verify", str(out), "--quiet"]) == 1
    told = capsys.readouterr().out
    assert "severity was info, is critical" in told
    assert "is not found now" in told
    for field in ("title", "detail"):
        lie = copy.deepcopy(verdict)
        lie["findings"][0][field] = "nothing to see here"
        rewritten(case, out, verdict__json=json.dumps(lie).encode())
        assert main(["slice", "--verify", str(out), "--quiet"]) == 1
        assert f"{field} was nothing to see here, is " in capsys.readouterr().out


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
    assert "17 statements are confirmed only by the signature" in told.err
    assert main(["slice", "--verify", str(out), "--quiet", "--against", CAPTURE]) == 3
    assert "not checked: made: finished, id, started" in capsys.readouterr().out
    verdict = json.loads(zipfile.ZipFile(out).read("verdict.json"))
    verdict["made"]["started"] = "2026-01-01T00:00:00Z"  # no packet shows it
    rewritten(out, tmp_path / "lie.zip", verdict__json=json.dumps(verdict).encode())
    assert main(["slice", "--verify", str(tmp_path / "lie.zip"), "--quiet"]) == 1
    assert "signature: " in capsys.readouterr().out
    signers.write_text(f"somebody@example {'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI' + 'A' * 43}\n")
    assert main(["slice", "--verify", str(out), "--signers", str(signers), "--quiet"]) == 1


def test_a_redacted_bundle_has_its_own_exit_status(redacted, capsys):
    assert main(["slice", "--verify", str(redacted), "--quiet", "--against", CAPTURE]) == 4
    assert capsys.readouterr().out.startswith("redacted, all else is equal\n")
    assert main(["slice", "--verify", str(redacted), "--quiet"]) == 4
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("redacted, all else is equal; ")
    assert "were not checked" in last


def test_a_bundle_from_the_store_is_judged_by_what_decided_then(rules, tmp_path, capsys):
    store = tmp_path / "store"
    auditor.audit(CAPTURE, inventory=INVENTORY, store=store)
    out = tmp_path / "b.zip"
    assert main(["slice", "--store", str(store), "--finding", rules["nats"], "-w", str(out), "--bundle", *QUIET]) == 0
    assert main(["slice", "--verify", str(out), "--quiet", "--against", CAPTURE]) == 0
    assert capsys.readouterr().out == "verified\n"
    verdict = json.loads(zipfile.ZipFile(out).read("verdict.json"))
    assert verdict["captures"][0]["sha256"]
    assert len(verdict["inventories"]) == 1


def test_an_original_that_was_renamed_has_the_name_that_it_had() -> None:
    """Its SHA-256 says that it is the same."""
    from auditor.slices.verify import as_named

    verdict = {"captures": [{"path": "cell.pcap"}]}
    seen = ["/tmp/other.pcap", "/tmp/other.pcap (again)", "/tmp/other.pcap interface 2", "eth0"]
    report = {
        "captures": [{"path": "/tmp/other.pcap"}],
        "connections": [{"id": "a", "vantages": seen, "sightings": [{"vantage": each} for each in seen]}],
    }
    told = as_named(report, verdict)
    names = ["cell.pcap", "cell.pcap (again)", "cell.pcap interface 2", "eth0"]
    assert told["captures"] == [{"path": "cell.pcap"}]
    assert told["connections"][0]["vantages"] == names
    assert [each["vantage"] for each in told["connections"][0]["sightings"]] == names
