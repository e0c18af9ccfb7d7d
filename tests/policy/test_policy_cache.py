"""Shipped policies are read once, and again as soon as anything that they were made of has changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auditor.errors import ConfigError
from auditor.policy import loader, policy_cache, shipped
from tests.conftest import ROOT


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty place where what is read is kept."""
    monkeypatch.setattr(policy_cache, "known_folder", lambda: (tmp_path, True))
    policy_cache._shipped.cache_clear()
    yield tmp_path
    policy_cache._shipped.cache_clear()


def again() -> Any:
    """As another process would."""
    policy_cache._shipped.cache_clear()
    return policy_cache._shipped()


def test_what_is_kept_is_what_was_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = policy_cache.load_policy(), policy_cache.overlays_beside(policy_cache.load_policy())
    assert read[0] == loader.load_policy([shipped.BASE])
    whole = policy_cache.load_policy([shipped.DEFAULT])
    assert whole == loader.load_policy([shipped.DEFAULT])
    assert policy_cache.overlays_beside(whole) == (), "it has them all"
    assert [name for name, _ in read[1]] == sorted({name for name, _ in loader.overlays()})
    assert len(list(place.iterdir())) == 1
    monkeypatch.setattr(loader, "load_policy", lambda *_, **__: pytest.fail("read again"))
    again()
    assert (policy_cache.load_policy([shipped.BASE]), policy_cache.overlays_beside(policy_cache.load_policy())) == read
    assert policy_cache.load_policy([shipped.DEFAULT]) == whole


def test_everything_else_is_read_as_it_is_named(place: Path, tmp_path: Path) -> None:
    assert policy_cache.load_policy(["tas-diego", "c2c"]) == loader.load_policy(["tas-diego", "c2c"])
    assert policy_cache.load_policy(release="TAS 4.0") == loader.load_policy(release="TAS 4.0")
    assert {name for name, _ in policy_cache.overlays_beside(policy_cache.load_policy(["c2c"]))} == {
        name for name, _ in loader.overlays()
    } - {"c2c"}
    with pytest.raises(ConfigError, match="no such policy"):
        policy_cache.load_policy(["tas-deigo"])


def test_overlays_are_those_of_the_release(place: Path) -> None:
    policy = policy_cache.load_policy(release="TAS 2.7")
    for name, paths in policy_cache.overlays_beside(policy):
        everything = dict(loader.overlays())[name]
        assert paths == tuple(path for path in everything if loader.covers(path.origin.releases, "TAS 2.7"))


@pytest.mark.parametrize(
    "spoil",
    [lambda data: data[:-1], lambda data: b"", lambda data: data[:60] + b"!" + data[61:], lambda data: data * 2],
)
def test_what_is_not_whole_is_read_again(place: Path, spoil: Any) -> None:
    read = again()
    (file,) = place.iterdir()
    whole = file.read_bytes()
    file.write_bytes(spoil(whole))
    assert again() == read
    assert file.read_bytes() == whole


def test_nothing_in_a_kept_file_is_run(place: Path) -> None:
    """A file with the right beginning and sum whose content is code for pickle, or names something else to be made: not taken."""
    read = again()
    (file,) = place.iterdir()
    whole = file.read_bytes()
    trap = b"cos\nsystem\n(S'touch %s/run'\ntR." % bytes(place)
    for content in (
        trap, b"[]", b"[[]]", b'[["eval","1"]]', b'[["tuple",[7]]]', b'[["Policy",1]]', b"{}", b"[1]", b"\xff",
        b'[["dict",1]]', b"[" * 100_000,
    ):  # fmt: skip
        file.write_bytes(policy_cache._MAGIC + policy_cache.digest(content).encode() + content)
        assert again() == read
        assert file.read_bytes() == whole, "it is made anew"
    assert list(place.iterdir()) == [file]
    file.chmod(0o666)
    assert policy_cache._kept(file) is None, "anybody could have written it"


def test_what_is_kept_shares_no_mapping(place: Path) -> None:
    again()
    one, other = again()[0]
    assert one._groups is not other._groups


def test_another_policy_has_another_name_and_the_older_goes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again()
    (before,) = place.iterdir()
    source = shipped.folder()
    assert source is not None
    changed = place.parent / f"{place.name}-policies"
    changed.mkdir()
    for each in source.glob("*.yml"):
        (changed / each.name).write_bytes(each.read_bytes() + (b"# changed\n" if each.stem == "nats" else b""))
    monkeypatch.setattr(shipped, "folder", lambda: changed)
    again()
    (after,) = place.iterdir()
    assert before.name != after.name


def test_where_nothing_can_be_kept_all_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for folder, there in ((tmp_path, False), (tmp_path / "gone", True)):
        monkeypatch.setattr(policy_cache, "known_folder", lambda folder=folder, there=there: (folder, there))
        assert again()[0] == (loader.load_policy(), loader.load_policy([shipped.DEFAULT]))
    assert list(tmp_path.iterdir()) == []
    policy_cache._shipped.cache_clear()


def test_an_audit_by_shipped_policies_reads_no_yaml(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from auditor.cli import main\n"
        "status = main(['audit', 'captures/sample/healthy.pcap', '--quiet', '--format', 'json', '--output', '/dev/null'])\n"
        "print(status, sorted({'pydantic', 'yaml', 'numba', 'llvmlite', 'scapy', 'jinja2', 'rich'} & set(sys.modules)))\n"
    )
    for _ in range(2):  # the first may compile, and keeps
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=True
        )
    assert done.stdout.split(maxsplit=1)[1] == "[]\n", done.stderr
