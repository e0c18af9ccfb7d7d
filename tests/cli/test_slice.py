"""``auditor slice``: from an id to a capture, and to a bundle that proves itself."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import zipfile
from pathlib import Path

import pytest

import auditor
from auditor.cli import main
from auditor.policy.loader import load_policy

SAMPLE = "sample:diego"
QUIET = ("--progress", "never")


@pytest.fixture(scope="module")
def findings() -> dict[str, str]:
    """Id of a finding of each rule."""
    from auditor import api

    table = api.audit(SAMPLE).audit.findings
    return dict(zip(table["rule"], table["id"], strict=True))


def test_a_finding_and_a_connection(findings, tmp_path, capsys):
    out = tmp_path / "out.pcapng"
    assert (
        main(
            [
                "slice",
                SAMPLE,
                "--finding",
                findings["plaintext"],
                "-w",
                str(out),
                "--index",
                str(tmp_path / "i"),
                *QUIET,
            ]
        )
        == 0
    )
    said = capsys.readouterr()
    assert said.out == ""
    assert "of 1 connection from 1 capture, 1 of 1 parts read" in said.err
    assert "credentials too" in said.err
    main(["connections", str(out), "--format", "csv", "--fields", "id,responder_port", "--quiet"])
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["responder_port"] == "9023"
    other = tmp_path / "other.pcapng"
    assert (
        main(["slice", SAMPLE, "--connection", row["id"][:8], "-w", str(other), "--index", "none", "--quiet", *QUIET])
        == 0
    )
    assert capsys.readouterr().err == ""
    main(["connections", str(other), "--format", "csv", "--fields", "id,responder_port", "--quiet"])
    assert next(csv.DictReader(io.StringIO(capsys.readouterr().out))) == row


@pytest.mark.parametrize(
    "rule",
    ["missing-client-certificate", "missing-credentials", "undeclared-connection", "plaintext", "capture-incomplete"],
)
def test_a_bundle_is_judged_again(rule, findings, tmp_path, capsys):
    out = tmp_path / "b.zip"
    assert main(["slice", SAMPLE, "--finding", findings[rule], "-w", str(out), "--bundle", "--quiet", *QUIET]) == 0
    assert main(["slice", "--verify", str(out), "--against", SAMPLE]) == 0
    assert capsys.readouterr().out == "verified\n"
    with zipfile.ZipFile(out) as archive:
        archive.extractall(tmp_path / "x")
    done = subprocess.run(
        ["sha256sum", "-c", "MANIFEST.sha256"], cwd=tmp_path / "x", capture_output=True, text=True, check=True
    )
    policies = len(load_policy(["tas"]).sources) - 1  # a profile goes as what it stands for
    assert done.stdout.count(": OK") == 4 + policies
    told = json.loads((tmp_path / "x" / "verdict.json").read_text())
    assert [each["rule"] for each in told["findings"]] == [rule]


def test_a_bundle_without_an_inventory_holds_what_was_inferred(tmp_path, capsys):
    capture = tmp_path / "c.pcapng"
    capture.write_bytes(Path("captures/sample/diego.pcapng").read_bytes())
    main(
        [
            "audit",
            str(capture),
            "--table",
            "findings",
            "--format",
            "ndjson",
            "--fail-on",
            "never",
            "--allow-incomplete",
            "--quiet",
        ]
    )
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    finding = next(each["id"] for each in told if each["rule"] == "missing-client-certificate")
    out = tmp_path / "b.zip"
    assert main(["slice", str(capture), "--finding", finding, "-w", str(out), "--bundle", "--quiet", *QUIET]) == 0
    assert main(["slice", "--verify", str(out)]) == 3
    assert main(["slice", "--verify", str(out), "--against", str(capture)]) == 0
    with zipfile.ZipFile(out) as archive:
        assert b"origin: inferred" in archive.read("inventory/00-inferred.yml")


def test_what_was_changed_is_told(findings, tmp_path, capsys):
    out = tmp_path / "b.zip"
    main(["slice", SAMPLE, "--finding", findings["plaintext"], "-w", str(out), "--bundle", "--quiet", *QUIET])
    with zipfile.ZipFile(out) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}

    def changed(**files: bytes) -> int:
        with zipfile.ZipFile(out, "w") as archive:
            for name, data in (content | {key.replace("__", "."): value for key, value in files.items()}).items():
                archive.writestr(name, data)
        capsys.readouterr()
        return main(["slice", "--verify", str(out), "--quiet"])

    assert changed() == 3
    assert changed(slice__pcapng=content["slice.pcapng"][:-1] + b"x") == 2
    assert "slice.pcapng was changed" in capsys.readouterr().err
    # With hashes that fit: then the verdict tells.
    import hashlib

    told = json.loads(content["verdict.json"])
    told["connections"][0]["authentication"]["verdict"] = "verified"
    lie = json.dumps(told).encode()
    sums = content["MANIFEST.sha256"].decode().splitlines()
    fitted = "".join(
        f"{hashlib.sha256(lie).hexdigest()}  verdict.json\n" if "verdict.json" in line else f"{line}\n" for line in sums
    )
    assert changed(verdict__json=lie, MANIFEST__sha256=fitted.encode()) == 1
    assert "authentication.verdict was verified, is violated" in capsys.readouterr().out


@pytest.mark.parametrize("names", [["../evil"], ["/etc/evil"], ["a/b/c"], ["slice.pcapng"], []])
def test_what_is_no_bundle(names, tmp_path, capsys):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    assert main(["slice", "--verify", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"auditor: {path}: ")
    assert not (tmp_path / "evil").exists()
    path.write_bytes(b"PK\x05\x06")
    assert main(["slice", "--verify", str(path)]) == 2


def test_a_slice_from_a_store(findings, tmp_path, capsys):
    store = str(tmp_path / "store")
    main(
        [
            "audit",
            SAMPLE,
            "--store",
            store,
            "--quiet",
            "--fail-on",
            "never",
            "--allow-incomplete",
            "--format",
            "csv",
            "--output",
            str(tmp_path / "x.csv"),
        ]
    )
    out = tmp_path / "out.pcapng"
    assert main(["slice", "--store", store, "--finding", findings["plaintext"], "-w", str(out), *QUIET]) == 0
    direct = tmp_path / "direct.pcapng"
    assert main(["slice", SAMPLE, "--finding", findings["plaintext"], "-w", str(direct), *QUIET]) == 0
    assert out.read_bytes() == direct.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([SAMPLE, "-w", "x"], "--finding"),
        ([SAMPLE, "--finding", "F-1"], "-w OUT"),
        (["--finding", "F-1", "-w", "x"], "name the captures"),
        ([SAMPLE, "--connection", "zzzzzz", "-w", "x"], "matches no connection"),
        ([SAMPLE, "--finding", "F-zzzzzz", "-w", "x"], '"F-zzzzzz" matches no finding'),
        (["absent.pcap", "--connection", "abcdef", "-w", "x"], "no such file"),
        (["--store", "absent", "--finding", "F-1", "-w", "x", "--bundle"], "absent"),
        ([SAMPLE, "--finding", "F-1", "-w", "x", "--sign", "key"], "--sign"),
    ],
)
def test_mistakes_are_one_line(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["slice", *arguments, *QUIET]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_finding_of_an_earlier_audit_is_told_where_it_is(tmp_path, capsys):
    store = str(tmp_path / "s")
    auditor.audit("sample:intruder", store=store)
    auditor.audit("sample:healthy", store=store)
    out = str(tmp_path / "x.pcapng")
    assert main(["slice", "--store", store, "--finding", "F-210ff31e20", "-w", out]) == 2
    assert "--audit 1" in capsys.readouterr().err
    assert main(["slice", "--store", store, "--finding", "F-210ff31e20", "--audit", "1", "-w", out]) == 0
