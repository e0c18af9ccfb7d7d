"""A store with three audits of the shipped samples, and a server over it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

import auditor
from auditor.cli._bundles import of_finding
from auditor.jobs import keep
from auditor.review.packets import Library
from auditor.review.pages import Review
from auditor.review.server import Server
from auditor.store.history import open_history
from tests.conftest import ROOT
from tests.report import make

TODAY = date(2026, 11, 22)


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Path:
    """1 and 2: the sample with its faults, 3: the healthy one, 4: hostile names."""
    place = tmp_path_factory.mktemp("review") / "store"
    captures = tmp_path_factory.mktemp("captures")
    for name in ("diego.pcapng", "diego.inventory.yml"):
        shutil.copy(ROOT / "captures" / "sample" / name, captures / name)
    diego = keep.hashed(auditor.audit(captures / "diego.pcapng", inventory=captures / "diego.inventory.yml").audit)
    with open_history(place, write=True) as history:
        for audit in (diego, diego, keep.hashed(auditor.audit("sample:healthy").audit), make.audit()):
            known = [mark for mark, each in history.known().items() if each.open]
            fresh = {**audit.info, "id": f"{history.next_audit():016x}"}
            keep.keep(
                keep.marked(
                    auditor.model.audit.Audit(
                        fresh, audit.summary, audit.captures, audit.connections, audit.findings, audit.coverage
                    ),
                    known,
                ),
                history,
                files=[str(captures / "diego.inventory.yml")],
            )
    return place


@pytest.fixture
def review(store, tmp_path) -> Review:
    return Review(
        store=store, today=lambda: TODAY, waivers=tmp_path / "waivers.yml", originals=Library(), bundler=of_finding
    )


@pytest.fixture
def server(review) -> Iterator[Server]:
    with Server(review) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield served
        finally:
            served.shutdown()
            thread.join()
