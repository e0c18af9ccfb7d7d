"""Captures by URL: a real S3 server and a real web server on loopback, and what is told where there is none."""

from __future__ import annotations

import gzip
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from auditor import api
from auditor.capture import expand, open_capture
from auditor.capture.remote import is_url, shown, without_secrets
from auditor.errors import InputError, MissingToolError
from tests.capture.make import pcap
from tests.capture.stores import Store, object_store

PCAP = pcap([(1, 0, b"one"), (2, 0, b"two")])
OBJECTS = {
    "caps/day/one.pcap": PCAP,
    "caps/day/two.pcap.gz": gzip.compress(PCAP),
    "caps/day/below/three.pcap": PCAP,
    "caps/day/notes.txt": b"nothing",
    "caps/dusk.pcap": PCAP,
    "caps/words/notes.txt": b"nothing",
}


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with object_store(OBJECTS) as made:
        yield made


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A web server that lists its folders."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "caps").mkdir()
    (folder / "caps" / "one.pcap").write_bytes(PCAP)
    (folder / "caps" / "notes.txt").write_bytes(b"nothing")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: Quiet(*given, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def nobody() -> str:
    """Host and port where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize(
    ("url", "gives"),
    [
        ("s3://caps/day/one.pcap", ["day/one.pcap"]),
        ("s3://caps/day", ["day/below/three.pcap", "day/one.pcap", "day/two.pcap.gz"]),
        ("s3://caps/day/", ["day/below/three.pcap", "day/one.pcap", "day/two.pcap.gz"]),
        ("s3://caps/d", ["day/below/three.pcap", "day/one.pcap", "day/two.pcap.gz", "dusk.pcap"]),
        ("s3://caps/day/t", ["day/two.pcap.gz"]),
        ("s3://caps/*.pcap", ["dusk.pcap"]),
        ("s3://caps/**/*.pcap", ["day/below/three.pcap", "day/one.pcap", "dusk.pcap"]),
        ("s3://caps/day/[no]*", ["day/notes.txt", "day/one.pcap"]),
    ],
)
def test_objects_prefixes_and_globs(store: Store, url: str, gives: list[str]) -> None:
    with store.known():
        assert expand([url]) == [f"s3://caps/{each}" for each in gives]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://caps/none", "no such file"),
        ("s3://caps/none*", "nothing matches"),
        ("s3://caps/words", "no captures below it"),
        ("s3://nobody/none", "no such file"),
    ],
)
def test_what_is_not_there(store: Store, url: str, says: str) -> None:
    with store.known(), pytest.raises(InputError, match=says):
        expand([url])


def test_an_audit_of_a_prefix_is_that_of_its_files(store: Store, tmp_path: Path) -> None:
    for name in ("one.pcap", "two.pcap.gz", "three.pcap"):
        (tmp_path / name).write_bytes(PCAP)
    with store.known():
        report = api.connections("s3://caps/day/")
    assert (
        report.audit.captures["packets"].tolist() == api.connections(str(tmp_path)).audit.captures["packets"].tolist()
    )


def test_the_web(web: str) -> None:
    assert expand([f"{web}/caps/one.pcap"]) == [f"{web}/caps/one.pcap"]
    assert expand([f"{web}/caps/"]) == [f"{web}/caps/one.pcap"]
    assert expand([f"{web}/caps/*.pcap"]) == [f"{web}/caps/one.pcap"]
    with pytest.raises(InputError, match="no such file"):
        open_capture(f"{web}/caps/none.pcap")


def test_a_server_that_is_not_there_is_no_missing_file(nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="cannot be opened: connection refused by the server"):
        open_capture(f"http://{nobody}/one.pcap")
    with pytest.raises(InputError, match="the name of the server is not known"):
        open_capture("http://no.such.host.invalid/one.pcap")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with Store(f"http://{nobody}").known():
        for url in ("s3://caps/one.pcap", "s3://caps/*.pcap", "s3://caps/day/"):
            with pytest.raises(InputError, match="cannot be opened: connection refused by the server"):
                expand([url])


def test_what_opens_a_url_is_shown_nowhere(web: str, nobody: str) -> None:
    signed = "caps/one.pcap?X-Amz-Signature=5ec4e7"
    with open_capture(f"{web}/{signed}") as reader:
        assert reader.summary().path == f"{web}/caps/one.pcap?..."
    assert api.connections(f"{web}/{signed}").audit.captures["path"].tolist() == [f"{web}/caps/one.pcap?..."]
    for url in (f"http://{nobody}/{signed}", f"http://me:5ec4e7@{nobody}/x.pcap", f"{web}/none?s=5ec4e7"):
        with pytest.raises(InputError) as told:
            open_capture(url)
        assert "5ec4e7" not in str(told.value)
    with pytest.raises((InputError, MissingToolError)) as untold:
        open_capture("nonsense://me:5ec4e7@host/x")
    assert "5ec4e7" not in str(untold.value)
    assert without_secrets("at 'https://a/b?sig=5ec4e7' now") == "at 'https://a/b?...' now"


def test_names_of_urls() -> None:
    assert [is_url(each) for each in ("s3://a", "/a/b", "C:/a", "-")] == [True, False, False, False]
    assert shown("s3://caps/a?.pcap") == "s3://caps/a?.pcap"
    assert shown("/a/b?c") == "/a/b?c"


def test_other_places_have_prefixes_too(tmp_path: Path) -> None:
    for name in ("one.pcap", "other.pcap", "two.pcap"):
        (tmp_path / name).write_bytes(PCAP)
    assert expand([f"file://{tmp_path}/o"]) == [f"file://{tmp_path}/one.pcap", f"file://{tmp_path}/other.pcap"]
    with fsspec.open("memory://folder/one.pcap", "wb") as out:
        out.write(PCAP)
    assert expand(["memory://folder"]) == expand(["memory://folder/o"]) == ["memory:///folder/one.pcap"]
