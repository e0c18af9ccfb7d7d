"""The corpus of real TLS handshakes: whole, without secrets, and judged without a single wrong claim."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import zstandard

from auditor.inspectors.tls import INSPECTOR
from auditor.kernels.tls import KEPT_RECORDS
from auditor.model.evidence import Evidence
from auditor.model.streams import HEAD_BYTES, StreamHead, Streams
from auditor.policy.tls13 import ClientCertificate, Confidence, Tls13Outcome, judge_tls13

FOLDER = Path(__file__).resolve().parents[2] / "captures" / "tls"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tls_corpus_{name}", FOLDER / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def confusion() -> ModuleType:
    return load("confusion")


@pytest.fixture(scope="module")
def cells(confusion: ModuleType) -> list[Any]:
    return confusion.read.corpus()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def judged(confusion: ModuleType, cells: list[Any]) -> list[Any]:
    return confusion.judged(cells)  # type: ignore[no-any-return]


def test_every_cell_of_the_matrix_is_there(cells: list[Any]) -> None:
    wanted = {cell.id for cell in load("generate").cells()}
    listed = Counter(cell.truth["cell"] for cell in cells if cell.truth["made"] != "first")
    assert set(listed) == wanted
    assert set(listed.values()) == {1}
    for cell in cells:
        if cell.truth["made"] == "no":
            assert cell.truth["client_says"], cell.truth["cell"]
        else:
            assert cell.connection is not None, cell.truth["cell"]


def test_a_cell_that_is_not_made_says_why_in_the_stacks_words_or_says_that_the_words_are_ours(cells: list[Any]) -> None:
    ours = "\n".join(
        path.read_text() for path in FOLDER.rglob("*") if path.suffix in {".py", ".c", ".h", ".go", ".java", ".rs"}
    )
    theirs = Counter[str]()
    for cell in cells:
        says = cell.truth["client_says"]
        if cell.truth["made"] != "no" or says.startswith("(our reason) "):
            continue
        who, _, words = says.partition(": ")
        assert who in {f"{cell.truth['client']} client", f"{cell.truth['server']} server"}, cell.truth["cell"]
        assert words, cell.truth["cell"]
        assert words not in ours, f"{cell.truth['cell']}: these are our own words: {words}"
        theirs[words] += 1
    assert theirs == {"PK - Key algorithm is unsupported (only RSA and EC are supported)": 12}


def test_nothing_is_claimed_wrongly(confusion: ModuleType, judged: list[Any]) -> None:
    assert len(judged) > 2_000
    assert [each.truth["cell"] for each in confusion.false_claims(judged)] == []
    sent = [each for each in judged if each.judgement.client_certificate is ClientCertificate.SENT]
    assert {each.truth["truth"] for each in sent} <= {"sent", "unsure"}
    assert len(sent) > 1_000


def test_little_is_left_unknown(judged: list[Any]) -> None:
    """All that is unknown comes of records padded to blocks."""
    known = [each for each in judged if each.truth["truth"] != "unsure" and "openssl-pad" not in each.truth["client"]]
    assert [each.truth["cell"] for each in known if each.said == "unknown"] == []


def test_refusals_are_never_taken_for_acceptance(judged: list[Any]) -> None:
    """An empty certificate that the server refused, in the handshake or inside TLS, is refused, hidden or unknown."""
    for each in judged:
        if each.truth["truth"] == "empty" and each.truth["server_result"] != "ok":
            assert each.judgement.outcome not in {Tls13Outcome.ACCEPTED, Tls13Outcome.LIKELY}, each.truth["cell"]
        if each.truth["client_result"] == each.truth["server_result"] == "ok":
            assert each.judgement.outcome is not Tls13Outcome.REFUSED, each.truth["cell"]


def test_tls12_shows_in_the_clear_what_the_ends_report(confusion: ModuleType, cells: list[Any]) -> None:
    shown = {"sent": {"sent"}, "empty": {"empty"}, "absent": {"absent"}, "resumed": {"hello"}}
    for cell in cells:
        if cell.connection and cell.truth["version"] == "1.2" and cell.truth["truth"] in shown:
            assert confusion.clear_certificate(cell.connection) in shown[cell.truth["truth"]], cell.truth["cell"]


def test_a_gap_moves_nothing_but_toward_unknown(judged: list[Any]) -> None:
    """Each judged connection, cut at each record of each side with a gap that can be seen."""
    seen = {(each.flights, each.judgement) for each in judged}
    for flights, before in seen:
        cuts = [
            replace(flights, client=flights.client[:i], client_gap=True, client_ended=False)
            for i in range(len(flights.client))
        ]
        cuts += [
            replace(flights, server=flights.server[:i], server_gap=True, server_ended=False)
            for i in range(len(flights.server))
        ]
        for cut in cuts:
            after = judge_tls13(cut)
            if after.client_certificate is ClientCertificate.UNKNOWN or after.confidence is Confidence.LOW:
                continue
            assert after.client_certificate is before.client_certificate
            weaker = {Tls13Outcome.UNKNOWN, Tls13Outcome.HIDDEN}
            if before.outcome is Tls13Outcome.ACCEPTED:
                weaker.add(Tls13Outcome.LIKELY)
            assert after.outcome in {before.outcome, *weaker}


def test_a_lost_tail_never_makes_a_certificate(judged: list[Any]) -> None:
    """Shorter connections, of which nobody knows that they are: no certificate appears where none was."""
    for each in judged:
        if each.truth["truth"] in ("empty", "absent", "late"):
            for i in range(len(each.flights.client)):
                for j in range(len(each.flights.server)):
                    cut = replace(each.flights, client=each.flights.client[:i], server=each.flights.server[:j])
                    assert judge_tls13(cut).client_certificate is not ClientCertificate.SENT


def test_stacks_never_learnt_from_are_judged_without_a_wrong_claim(judged: list[Any]) -> None:
    rows = list(load("fit").leave_one_out(judged))
    assert len(rows) > 10
    assert [row.stack for row in rows if row.wrong or row.outcomes_wrong] == []
    # Only what pads its records is left unknown.
    assert {row.stack for row in rows if row.right < 0.9 * row.connections} == {"openssl-pad"}


def test_the_page_of_verdicts_is_current() -> None:
    spec = importlib.util.spec_from_file_location("make_verdicts", FOLDER.parents[1] / "docs" / "make_verdicts.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "make docs brings it up to date"


def test_the_page_is_what_the_corpus_gives(confusion: ModuleType, cells: list[Any]) -> None:
    assert confusion.PAGE.read_text() == confusion.page(cells)


def test_no_secret_and_no_great_size() -> None:
    raw = zstandard.ZstdDecompressor().decompress((FOLDER / "corpus.pcap.zst").read_bytes(), max_output_size=1 << 28)
    truth = (FOLDER / "corpus.truth.tsv").read_bytes()
    for text in (raw, truth):
        assert b"PRIVATE KEY" not in text
    assert not list(FOLDER.rglob("*.key"))
    assert sum(each.stat().st_size for each in FOLDER.glob("corpus.*")) < 4_500_000


def heads(connection: Any) -> Streams:
    def head(side: Any) -> StreamHead:
        data = bytes(side.stream[:HEAD_BYTES])
        ended = (side.ended or side.reset) and len(data) == len(side.stream)
        return StreamHead(data, ended=ended, stream_bytes=len(side.stream), segments=((0, 1),))

    return Streams(head(connection.up), head(connection.down))


def test_the_inspector_sees_the_same(confusion: ModuleType, cells: list[Any]) -> None:
    """The auditor's own reading of every connection against the corpus's reader, which shares no code with it."""
    clear = {"sent": "sent", "empty": "empty", "absent": "not_asked"}
    compared = 0
    for cell in cells:
        if cell.connection is None:
            continue
        facts = {
            each.kind: each.value for each in INSPECTOR.inspect(heads(cell.connection)) if isinstance(each, Evidence)
        }
        if cell.truth["version"] == "1.2":
            if cell.truth["truth"] in clear:
                assert facts["tls.client_certificate"] == clear[cell.truth["truth"]], cell.truth["cell"]
                compared += 1
            assert cell.truth["truth"] != "resumed" or facts["tls.resumed"] is True
            continue
        flights = confusion.flights(cell.connection)
        if flights is None:
            continue
        compared += 1
        for side, lengths in (("client", flights.client), ("server", flights.server)):
            got = tuple(facts.get(f"tls.{side}_records", ()))
            assert got == lengths[: len(got)], cell.truth["cell"]
            # A list that stops short says so: more records than are kept, or a head behind which none were followed.
            short = f"tls.{side}_records_more" in facts or facts.get("tls.limit") in (side, "both")
            assert len(got) == len(lengths) or short, cell.truth["cell"]
        assert (facts.get("tls.resumed") is True) == flights.psk_selected
        assert ("tls.hello_retry" in facts) == flights.hello_retry
        assert (facts.get("tls.post_handshake_auth_offered") is True) == flights.post_handshake_auth
    assert compared > 3_500


def test_a_list_cut_to_what_the_inspector_keeps_loses_no_certificate(judged: list[Any]) -> None:
    for each in judged:
        flights = each.flights
        cut = replace(
            flights,
            client=flights.client[:KEPT_RECORDS],
            server=flights.server[:KEPT_RECORDS],
            client_gap=len(flights.client) > KEPT_RECORDS,
            server_gap=len(flights.server) > KEPT_RECORDS,
        )
        assert judge_tls13(cut).client_certificate is each.judgement.client_certificate, each.truth["cell"]
