"""The judge of TLS 1.3 record lengths, one conversation a test; lengths as the stacks of ``captures/tls`` made them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.policy.tls13 import (
    Asked,
    ClientCertificate,
    Confidence,
    Tls13Flights,
    Tls13Judgement,
    Tls13Outcome,
    judge_tls13,
    tls13_model,
)

AES128, AES256, CHACHA, CCM8 = 0x1301, 0x1302, 0x1303, 0x1305
SENT, EMPTY, ABSENT, UNKNOWN = ClientCertificate
ASKING, NOT_ASKING = (23, 112, 927, 281, 53), (23, 927, 281, 53)
TICKET = (1043,)


def judge(client: tuple[int, ...], server: tuple[int, ...], suite: int = AES128, **more: bool) -> Tls13Judgement:
    return judge_tls13(Tls13Flights(client, server, suite, **more))


def heard(script: str, suite: int = AES128, **more: Any) -> Tls13Judgement:
    """The same of records in their order: ``s23 s927 s281 s53 c53 c300 s500``."""
    told = script.split()
    client, server = (tuple(int(each[1:]) for each in told if each[0] == side) for side in "cs")
    return judge_tls13(Tls13Flights(client, server, suite, order="".join(each[0] for each in told), **more))


ASKS, ASKS_NOT = "s23 s112 s927 s281 s53", "s23 s927 s281 s53"
DECLINED = f"{ASKS} c25 c53 s234 s234"


class TestFlightOfSeparateRecords:
    def test_asked_certificate_verify_finished_and_data_both_ways(self) -> None:
        said = heard(f"{ASKS} c921 c281 c53 s1043 c735 s5850 c19 s19")
        assert (said.client_certificate, said.asked, said.outcome) == (SENT, Asked.YES, Tls13Outcome.ACCEPTED)
        assert said.confidence is Confidence.MEDIUM
        assert said.shape == "separate"
        assert "go" in said.stacks
        assert "Certificate (921), CertificateVerify (281) and Finished (53)" in said.says

    @pytest.mark.parametrize("verify", [89, 95, 96, 97, 281, 537])
    def test_any_signature(self, verify: int) -> None:
        assert judge((720, verify, 53, 100), (*ASKING, *TICKET, 200)).client_certificate is SENT

    def test_finished_alone_when_nobody_asked(self) -> None:
        said = heard(f"{ASKS_NOT} s147 c53 c397 s919 c397 s919 c19 s19")
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
        for talk in ("c379 s500 c380 s600 c381 s700", "c379 s8000", " ".join(["c379 s500"] * 5)):
            said = heard(f"{DECLINED} {talk}")
            assert (said.client_certificate, said.outcome) == (EMPTY, Tls13Outcome.ACCEPTED), talk

    def test_declined_and_answers_alike_are_hidden(self) -> None:
        """Three times the same short page is what a client that is refused three times gets."""
        said = heard(f"{DECLINED} c379 s206 c379 s206 c379 s206 c19 s19")
        assert (said.client_certificate, said.outcome) == (EMPTY, Tls13Outcome.HIDDEN)

    def test_a_suite_of_sha384_has_a_longer_finished(self) -> None:
        assert judge((69, 300), (23, 927, 281, 69, 250, 250, 500), AES256).client_certificate is ABSENT
        assert judge((827, 281, 69), (23, 62, 1702, 281, 69), AES256).client_certificate is SENT

    def test_a_short_tag(self) -> None:
        assert judge((17, 45), (15, 104, 919, 273, 45), CCM8).client_certificate is EMPTY

    def test_certificate_in_fragments(self) -> None:
        said = judge((529, 529, 529, 227, 281, 53, 312), (*ASKING, 1885, 324))
        assert (said.client_certificate, said.confidence) == (SENT, Confidence.MEDIUM)

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
        assert (said.client_certificate, said.confidence, said.shape) == (SENT, Confidence.MEDIUM, "whole")

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
        said = heard("s23 s53 c53 s1043 c481 s6070", psk_selected=True)
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


class TestCertificateBehindTheHandshake:
    """A client that offers ``post_handshake_auth`` and was not asked in the handshake (every curl does)."""

    asked_first = "s38 s958 s95 s69 c69 c99 s282 s282"

    def late(self, script: str, **more: Any) -> str:
        return heard(script, AES256, post_handshake_auth=True, **more).late

    def test_nobody_asked_where_no_finished_follows(self) -> None:
        assert self.late(f"{self.asked_first} s250 c95 s250") == ""

    def test_one_crossed_where_its_flight_follows(self) -> None:
        assert self.late(f"{self.asked_first} s121 c1099 c281 c69 s938 s938 s236") == "sent"

    def test_what_is_as_long_as_a_finished_may_be_one(self) -> None:
        assert self.late(f"{self.asked_first} c69 s250") == "possible"
        assert self.late(f"{self.asked_first} c57 c69 s250") == "possible"

    def test_packets_that_are_missing_may_hold_it(self) -> None:
        assert self.late(f"{self.asked_first} s250", client_gap=True) == "possible"

    def test_http2_forbids_it(self) -> None:
        script = self.asked_first.replace("s38", "s32") + " c69 s250"
        assert self.late(script, alpn_offered=("h2", "http/1.1")) == ""
        assert self.late(f"{self.asked_first} c69 s250", alpn_offered=("h2", "http/1.1")) == "possible"

    def test_who_does_not_offer_it_cannot(self) -> None:
        assert heard(f"{self.asked_first} c57 c69", AES256).late == ""


class TestWhatBecameOfIt:
    certified = f"{ASKS} c921 c281 c53"

    def test_tickets_and_no_answer_is_a_refusal(self) -> None:
        """BoringSSL behind Bun: the handshake ends well, tickets come, and only then the certificate is looked at."""
        said = heard("s1157 c444 c96 c69 s1277 s19 c109 c19", AES256, server_ended=True)
        assert (said.client_certificate, said.outcome) == (SENT, Tls13Outcome.REFUSED)

    def test_two_tickets_and_no_answer_is_one_too(self) -> None:
        said = heard(f"{self.certified} s1040 s1040 c109 s19", server_ended=True)
        assert said.outcome is Tls13Outcome.REFUSED

    def test_a_ticket_or_an_answer_and_the_end_is_open(self) -> None:
        """In whatever order they were captured."""
        for talk in ("c109 s1277 s19", "s1277 c109 s19", "s1277 s19 c109"):
            assert heard(f"{self.certified} {talk}", server_ended=True).outcome is Tls13Outcome.UNKNOWN, talk

    def test_an_answer_too_short_for_a_ticket_with_the_certificate(self) -> None:
        """A server that gives no tickets, answers and closes."""
        assert heard(f"{self.certified} c217 s559 s19 c19", server_ended=True).outcome is Tls13Outcome.LIKELY
        assert heard(f"{self.certified} c217 s60 c19").outcome is Tls13Outcome.LIKELY

    def test_requests_that_nobody_answers_are_open(self) -> None:
        assert heard(f"{self.certified} s1040 c109 c19", client_ended=True).outcome is Tls13Outcome.UNKNOWN

    def test_a_ticket_for_one_who_asks_nothing(self) -> None:
        assert heard(f"{self.certified} s1040 c19", client_ended=True).outcome is Tls13Outcome.LIKELY

    def test_answers_alike_are_no_proof_for_a_certificate_either(self) -> None:
        answers = " c95 s206" * 3
        assert heard(f"{self.certified} s1040{answers} c19 s19").outcome is Tls13Outcome.LIKELY
        assert heard(f"{self.certified} s1040{answers * 2} c19 s19").outcome is Tls13Outcome.ACCEPTED

    def test_two_tickets_of_nearly_one_length_are_no_two_answers(self) -> None:
        said = heard("s23 s62 s958 s97 s69 c25 c69 c109 s266 s250 s66 c109 s66 c109 s66", AES256)
        assert (said.dialogue.turns, said.outcome) == ((49, 49, 49), Tls13Outcome.HIDDEN)

    def test_leave_to_go_on_is_no_answer(self) -> None:
        """``100 Continue`` before a refusal."""
        assert heard(f"{DECLINED} c300 s42 c2000 s206 s19").outcome is Tls13Outcome.HIDDEN

    def test_http2_says_much_that_is_no_answer(self) -> None:
        h2 = {"alpn_offered": ("h2", "http/1.1")}
        for server in (
            "s32 s89 s958 s96 s69 c25 c69 s282 s282 c81 c57 s26 c26 s26 s137 s26 s19",
            "s32 s89 s558 s96 s69 c25 c69 s250 s250 c81 s47 c57 s158 c26 s19",
        ):
            said = heard(server, AES256, **h2)
            assert (said.client_certificate, said.http2, said.outcome) == (EMPTY, True, Tls13Outcome.HIDDEN), server

    def test_a_server_that_does_not_ask_does_not_refuse_for_want_of_a_certificate(self) -> None:
        assert heard("s38 s558 s96 s53 s147 c53 c109 s107 c19 s19").outcome is Tls13Outcome.LIKELY
        assert heard("s38 s558 s96 s53 s147 c53 c109 s107 c109 s107 c19 s19").outcome is Tls13Outcome.ACCEPTED

    def test_headers_alone_may_turn_a_name_or_a_call_away(self) -> None:
        """421 in HTTP/2, and the status of gRPC; headers and a body are an answer."""
        opening, h2 = "s32 s558 s96 s53 s147 c53 s50 c81 s30 s26", {"alpn_offered": ("h2", "http/1.1")}
        assert heard(f"{opening} c57 s63 c26 s19", **h2).outcome is Tls13Outcome.HIDDEN
        assert heard(f"{opening} c66 s81 s65 c26 s19", **h2).outcome is Tls13Outcome.LIKELY


class TestPreSharedKeys:
    def test_a_name_shorter_than_any_ticket_is_no_sessions(self) -> None:
        said = heard("s23 s53 c53 c44 s3990 s19 c19", psk_selected=True, psk_identity_bytes=15)
        assert (said.client_certificate, said.resumed, said.external) == (ABSENT, False, True)
        assert said.outcome is Tls13Outcome.LIKELY

    def test_a_tickets_length_is_resumption(self) -> None:
        said = heard("s23 s53 c53 s147 c44 s3990", psk_selected=True, psk_identity_bytes=113)
        assert (said.client_certificate, said.resumed) == (UNKNOWN, True)


class TestHttpVersion:
    @pytest.mark.parametrize(
        ("first", "http2"), [(23, False), (27, False), (32, True), (36, True), (38, False), (42, False), (64, None)]
    )
    def test_by_the_length_of_encrypted_extensions(self, first: int, http2: bool | None) -> None:
        script = f"s{first} s558 s96 s53 c53 s147"
        assert heard(script, alpn_offered=("h2", "http/1.1")).http2 is http2
        assert heard(script, alpn_offered=("http/1.1",)).http2 is False
        assert heard(script, alpn_offered=("h2",)).http2 is True


def test_a_padded_empty_certificate_is_no_certificate() -> None:
    """Finished in a record of its own says that the one before it is not the whole flight."""
    assert heard("s23 s62 s875 s281 s69 c1407 c69 c48 s250 s250 s64", AES256).client_certificate is UNKNOWN


def test_a_long_list_of_authorities_is_a_request() -> None:
    said = heard("s38 s14844 s558 s96 s69 c25 c69", AES256)
    assert (said.client_certificate, said.asked) == (EMPTY, Asked.YES)


def test_a_small_certificate_is_one() -> None:
    """An Ed25519 certificate of 174 octets."""
    assert heard("s38 s134 s558 s97 s69 c204 c89 c69", AES256).client_certificate is SENT


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
    order=st.text("cccsssxyCSH", max_size=20),
    alpn_offered=st.sampled_from([(), ("h2",), ("h2", "http/1.1")]),
    psk_identity_bytes=st.sampled_from([0, 15, 32, 113]),
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
    st.randoms(use_true_random=False),
).map(lambda t: Tls13Flights(t[0] + t[1], t[2] + t[3], AES128, order=_mixed(t), server_ended=t[4]))


def _mixed(parts: tuple[Any, ...]) -> str:
    """An order in which these may have come: the flights, then data of both sides by chance."""
    client, asked, server, answered, _, chance = parts
    behind = ["c"] * len(asked) + ["s"] * len(answered)
    chance.shuffle(behind)
    return "s" * len(server) + "c" * len(client) + "".join(behind)


@given(flights)
def test_any_lengths_are_judged(seen: Tls13Flights) -> None:
    said = judge_tls13(seen)
    assert said == judge_tls13(seen)
    assert said.says
    if said.client_certificate is SENT:
        assert said.asked is Asked.YES
        assert max(seen.client) > 300
    if seen.psk_selected:
        assert said.resumed is not said.external
        assert said.client_certificate is (ABSENT if said.external else UNKNOWN)


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
