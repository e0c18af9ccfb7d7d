"""The judge of TLS 1.3 record lengths, one conversation a test; lengths as the stacks of ``captures/tls`` made them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.policy.tls13 import (
    Asked,
    ClientCertificate,
    Confidence,
    Tls13Flights,
    Tls13Outcome,
    judge_tls13,
    tls13_model,
)

AES128, AES256, CHACHA, CCM8 = 0x1301, 0x1302, 0x1303, 0x1305
SENT, EMPTY, ABSENT, UNKNOWN = ClientCertificate
ASKING, NOT_ASKING = (23, 112, 927, 281, 53), (23, 927, 281, 53)
TICKET = (1043,)


def judge(client: tuple[int, ...], server: tuple[int, ...], suite: int = AES128, **more: bool):
    return judge_tls13(Tls13Flights(client, server, suite, **more))


class TestFlightOfSeparateRecords:
    def test_asked_certificate_verify_finished_and_data_both_ways(self) -> None:
        said = judge((921, 281, 53, 735, 19), (*ASKING, *TICKET, 585, 19))
        assert (said.client_certificate, said.asked, said.outcome) == (SENT, Asked.YES, Tls13Outcome.ACCEPTED)
        assert said.confidence is Confidence.HIGH
        assert said.shape == "separate"
        assert "go" in said.stacks
        assert "Certificate (921), CertificateVerify (281) and Finished (53)" in said.says

    @pytest.mark.parametrize("verify", [89, 95, 96, 97, 281, 537])
    def test_any_signature(self, verify: int) -> None:
        assert judge((720, verify, 53, 100), (*ASKING, *TICKET, 200)).client_certificate is SENT

    def test_finished_alone_when_nobody_asked(self) -> None:
        said = judge((53, 397, 397, 19), (*NOT_ASKING, 147, 919, 919, 19))
        assert (said.client_certificate, said.asked, said.outcome) == (ABSENT, Asked.NO, Tls13Outcome.ACCEPTED)
        assert said.confidence is Confidence.HIGH

    def test_declined_and_refused(self) -> None:
        said = judge((25, 53, 401), (*ASKING, 19), server_ended=True)
        assert (said.client_certificate, said.asked, said.outcome) == (EMPTY, Asked.YES, Tls13Outcome.REFUSED)

    def test_declined_and_one_short_answer_is_hidden(self) -> None:
        """A server that answers 400 inside TLS (nginx) looks like one that accepts."""
        said = judge((25, 53, 379), (27, 112, 927, 281, 53, 266, 266, 406, 19), server_ended=True)
        assert (said.client_certificate, said.outcome) == (EMPTY, Tls13Outcome.HIDDEN)

    def test_declined_and_a_conversation_is_accepted(self) -> None:
        said = judge((25, 53, 379, 380, 381), (*ASKING, 234, 234, 500, 600, 700))
        assert (said.client_certificate, said.outcome) == (EMPTY, Tls13Outcome.ACCEPTED)

    def test_a_suite_of_sha384_has_a_longer_finished(self) -> None:
        assert judge((69, 300), (23, 927, 281, 69, 250, 250, 500), AES256).client_certificate is ABSENT
        assert judge((827, 281, 69), (23, 62, 1702, 281, 69), AES256).client_certificate is SENT

    def test_a_short_tag(self) -> None:
        assert judge((17, 45), (15, 104, 919, 273, 45), CCM8).client_certificate is EMPTY

    def test_certificate_in_fragments(self) -> None:
        said = judge((529, 529, 529, 227, 281, 53, 312), (*ASKING, 1885, 324))
        assert (said.client_certificate, said.confidence) == (SENT, Confidence.HIGH)

    def test_servers_certificate_in_fragments(self) -> None:
        assert judge((53, 116), (23, 529, 529, 529, 233, 281, 53, 234, 234, 529)).asked is Asked.NO
        assert judge((25, 53, 116), (23, 112, 529, 529, 529, 233, 281, 53, 19)).asked is Asked.YES

    def test_every_record_padded_by_16(self) -> None:
        """JSSE: 69 with SHA-256 is Finished and padding, not an SHA-384 Finished."""
        assert judge((69, 521, 35), NOT_ASKING).client_certificate is ABSENT
        assert judge((41, 69, 611), ASKING).client_certificate is EMPTY
        said = judge((937, 297, 69, 682), (*ASKING, 1043, 101))
        assert (said.client_certificate, said.shape, said.stacks) == (SENT, "separate+16", ("jsse",))


class TestFlightInOneRecord:
    def test_a_certificate(self) -> None:
        said = judge((1221, 812, 19), (*ASKING, 1043, 224, 19))
        assert (said.client_certificate, said.confidence, said.shape) == (SENT, Confidence.HIGH, "whole")

    def test_a_server_in_one_record_hides_whether_it_asked(self) -> None:
        said = judge((1221, 266, 19), (1310, 2205, 902, 19))
        assert (said.client_certificate, said.asked, said.confidence) == (SENT, Asked.YES, Confidence.MEDIUM)
        assert "does not show whether it asked" in said.says

    @pytest.mark.parametrize(
        ("first", "suite", "server"),
        [(61, AES128, ASKING), (77, AES256, (23, 62, 1702, 281, 69)), (93, AES256, (65, 166, 943, 297, 85))],
    )
    def test_declined(self, first: int, suite: int, server: tuple[int, ...]) -> None:
        assert judge((first, 401, 402), server, suite).client_certificate is EMPTY

    def test_a_lone_record_is_not_enough(self) -> None:
        assert judge((1221,), ASKING).confidence is Confidence.LOW


class TestNothingIsClaimed:
    def test_records_padded_to_blocks(self) -> None:
        for client in ((1040, 1040, 1040, 1040), (2064, 1040, 1040, 1040), (1040, 1040), (1040,)):
            assert judge(client, ASKING).client_certificate is UNKNOWN

    def test_a_handshake_alone_padded_to_blocks(self) -> None:
        """OpenSSL 3.4 can pad the handshake and leave data as it is: a declined flight then looks as long as one with a certificate."""
        for block in (512, 1024, 4096):
            for client in ((block + 16, block + 16, 300, 320), (block + 16, 300), (2 * block + 16, 401, 17)):
                for server in (ASKING, (1310, 2205, 902, 19)):
                    said = judge(client, server)
                    assert said.client_certificate is UNKNOWN, (client, server, said)

    def test_a_server_that_pads_to_blocks_hides_the_outcome(self) -> None:
        said = judge((25, 53, 193, 19), (1040, 1040, 2064, 1040, 1040, 1040))
        assert (said.client_certificate, said.outcome) == (EMPTY, Tls13Outcome.UNKNOWN)

    def test_both_sides_must_agree(self) -> None:
        assert judge((53, 400), ASKING).client_certificate is UNKNOWN
        assert judge((25, 53, 400), NOT_ASKING).client_certificate is UNKNOWN
        assert judge((921, 281, 53), NOT_ASKING).client_certificate is UNKNOWN

    def test_a_resumed_session(self) -> None:
        said = judge((53, 481, 481), (23, 53, 1043, 607, 607), psk_selected=True)
        assert (said.client_certificate, said.resumed, said.outcome) == (UNKNOWN, True, Tls13Outcome.ACCEPTED)

    def test_early_data_that_was_not_taken(self) -> None:
        assert judge((921, 281, 53), ASKING, early_data=True).client_certificate is UNKNOWN

    def test_a_gap_in_either_flight(self) -> None:
        assert judge((921,), ASKING, client_gap=True).client_certificate is UNKNOWN
        assert judge((), ASKING, client_gap=True).client_certificate is UNKNOWN
        assert judge((921, 281, 53), (23, 112), server_gap=True).client_certificate is UNKNOWN

    def test_the_client_turns_the_server_away(self) -> None:
        assert judge((19,), NOT_ASKING).outcome is Tls13Outcome.REFUSED
        assert judge((), NOT_ASKING, client_alert=True).outcome is Tls13Outcome.REFUSED

    def test_a_client_that_only_greets_and_leaves(self) -> None:
        """A health check: both ends say goodbye with records of 19, nobody refused anybody."""
        assert judge((53, 19), (*NOT_ASKING, 19)).outcome is Tls13Outcome.UNKNOWN


def test_a_certificate_may_come_later_where_the_client_offers_it() -> None:
    assert judge((69, 996, 57, 69), (23, 1769, 281, 69, 250, 250, 144), AES256, post_handshake_auth=True).late_possible
    assert not judge((69, 996, 57, 69), (23, 1769, 281, 69, 250, 250, 144), AES256).late_possible
    assert not judge((25, 53, 996), ASKING, post_handshake_auth=True).late_possible


def test_the_model_is_complete() -> None:
    model = tls13_model()
    assert {"go", "openssl", "jsse", "gnutls", "nss", "boringssl", "rustls", "wolfssl"} <= {
        name for name, _, _ in model.stacks
    }
    assert {layout for _, layout, _ in model.stacks} == {"separate", "whole"}
    assert {256, 64, 71} <= model.signatures


lengths = st.one_of(
    st.sampled_from([19, 23, 25, 35, 41, 53, 61, 69, 77, 85, 93, 96, 112, 281, 297, 529, 921, 927, 1040, 1221, 2064]),
    st.integers(17, 16_640),
)
flights = st.builds(
    Tls13Flights,
    client=st.lists(lengths, max_size=9).map(tuple),
    server=st.lists(lengths, max_size=9).map(tuple),
    cipher_suite=st.sampled_from([AES128, AES256, CHACHA, CCM8, 0, 0xFFFF]),
    psk_selected=st.booleans(),
    early_data=st.booleans(),
    post_handshake_auth=st.booleans(),
    client_alert=st.booleans(),
    server_alert=st.booleans(),
    client_gap=st.booleans(),
    server_gap=st.booleans(),
    client_ended=st.booleans(),
    server_ended=st.booleans(),
)
plausible = st.tuples(
    st.sampled_from(
        [
            (53,),
            (25, 53),
            (61,),
            (921, 281, 53),
            (720, 96, 53),
            (1221,),
            (937, 297, 69),
            (41, 69),
            (529, 529, 200, 281, 53),
            (1040, 1040),
        ]
    ),
    st.lists(lengths, max_size=4).map(tuple),
    st.sampled_from([ASKING, NOT_ASKING, (1310,), (23, 529, 529, 233, 281, 53), (1040, 1040, 2064, 1040, 1040)]),
    st.lists(lengths, max_size=5).map(tuple),
    st.booleans(),
).map(lambda t: Tls13Flights(t[0] + t[1], t[2] + t[3], AES128, server_ended=t[4]))


@given(flights)
def test_any_lengths_are_judged(seen: Tls13Flights) -> None:
    said = judge_tls13(seen)
    assert said == judge_tls13(seen)
    assert said.says
    if said.client_certificate is SENT:
        assert said.asked is Asked.YES
        assert max(seen.client) > 300
    if seen.psk_selected:
        assert said.resumed
        assert said.client_certificate is UNKNOWN


def undecided(seen: Tls13Flights) -> bool:
    said = judge_tls13(seen)
    return said.client_certificate is UNKNOWN or said.confidence is Confidence.LOW


@given(plausible, st.data())
def test_a_visible_gap_never_makes_a_claim(whole: Tls13Flights, data: st.DataObject) -> None:
    """What is cut off behind a gap moves the certificate's judgement toward unknown only, and no outcome appears that was not there."""
    cut = data.draw(st.integers(0, max(len(whole.client) - 1, 0)))
    keep = data.draw(st.integers(0, max(len(whole.server) - 1, 0)))
    for less in (
        replace(whole, client=whole.client[:cut], client_gap=True, client_ended=False),
        replace(whole, server=whole.server[:keep], server_gap=True, server_ended=False),
    ):
        before, after = judge_tls13(whole), judge_tls13(less)
        if undecided(whole):
            assert undecided(less)
        elif not undecided(less):
            assert after.client_certificate is before.client_certificate
        if after.outcome in (Tls13Outcome.ACCEPTED, Tls13Outcome.REFUSED) and not undecided(less):
            assert after.outcome is before.outcome
