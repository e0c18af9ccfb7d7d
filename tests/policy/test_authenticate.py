"""Verdicts: each of the contract's rules by its number, each protocol, connections that are judged by others, and gaps."""

from __future__ import annotations

import random
import ssl
from copy import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.model.facts import Facts
from auditor.model.judgement import Authentication, Breach, Classification, Disposition, Verdict
from auditor.policy._tls import Digests
from auditor.policy.authenticate import authenticate
from auditor.policy.loader import load_policy
from auditor.policy.policy import Policy
from auditor.policy.tls13 import Tls13Flights, judge_tls13
from tests.conftest import ROOT
from tests.conversation import ACK, FIN, Talk, Wire
from tests.inspectors import test_mysql as mysql
from tests.inspectors import test_ssh as ssh_
from tests.inspectors.handshakes import contexts, shake
from tests.inspectors.test_nats import connect, info
from tests.policy.scenes import (
    CONNECT,
    DECLINED12,
    DECLINED13,
    GREETING,
    INFO,
    MUTUAL12,
    MUTUAL13,
    MYSQL,
    NATS,
    REFUSED13,
    RESUMED13,
    SERVER12,
    SERVER13,
    SSH,
    TLS12,
    TLS13,
    Scene,
    documented,
    follow,
    http,
    judge_all,
    judge_wire,
    play,
    table_of,
)

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
GOOD = {Verdict.VERIFIED, Verdict.INFERRED, Verdict.INHERITED}


class Judge:
    """What is said of a connection on a path of the shipped policy."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def on(self, path: str, **more: Any) -> Classification:
        return documented(self.policy, path, **more)

    def __call__(self, path: str, application: str, facts: dict[str, Any] | None = None, **more: Any) -> Authentication:
        known = {key: more.pop(key) for key in ("breach", "orig_role", "resp_role", "disposition") if key in more}
        return judge_all(self.policy, Scene(application, facts, self.on(path, **known), **more))[0]


@pytest.fixture
def judge(tas_diego: Policy) -> Judge:
    return Judge(tas_diego)


def rules(answer: Authentication) -> set[str]:
    return {fault.rule for fault in answer.faults}


def factors(answer: Authentication) -> dict[str, Verdict]:
    return {factor.name: factor.verdict for factor in answer.factors}


SSH_PATH: dict[str, Any] = {"orig_role": "diego_brain", "resp_role": "diego_cell", "port": 61010}


# The thirteen rules


def test_rule_1_method_and_faults_apart(judge: Judge) -> None:
    old = judge("rep-to-bbs", "tls", MUTUAL12 | {"tls.version": "TLS 1.0"})
    assert (old.verdict, rules(old)) == (Verdict.VERIFIED, {"weak-tls"})


def test_rule_1_stronger_satisfies_weaker(judge: Judge) -> None:
    assert judge("rep-to-file-server", "tls", MUTUAL12).verdict is Verdict.VERIFIED
    assert judge("rep-to-file-server", "tls", SERVER12).verdict is Verdict.VERIFIED


def test_rule_1_a_documented_protocol_inside_tls_hides_its_factor_by_design(judge: Judge) -> None:
    for path, application in (("bbs-to-mysql", "tls"), ("bbs-to-mysql", "mysql"), ("route-emitter-to-nats", "tls")):
        answer = judge(path, application, SERVER12)
        assert (answer.verdict, answer.missing, answer.counted) == (Verdict.UNVERIFIABLE, "hidden", False)


def test_rule_1_https_documents_tls_whatever_the_authentication(judge: Judge) -> None:
    inside = judge("ssh-proxy-to-cc", "https", SERVER12)
    assert inside.required == "oauth2"
    assert factors(inside) == {"tls": Verdict.VERIFIED, "oauth2": Verdict.UNVERIFIABLE}
    bare = judge("ssh-proxy-to-cc", "http", http(("bearer", "none", 200)))
    assert factors(bare) == {"tls": Verdict.VIOLATED, "oauth2": Verdict.VERIFIED}
    assert bare.verdict is Verdict.VIOLATED
    assert rules(bare) == {"plaintext", "cleartext-credentials"}


def test_rule_2_inferred_means_that_it_happened(judge: Judge) -> None:
    sent = judge("rep-to-bbs", "tls", MUTUAL13)
    assert (sent.verdict, sent.confidence, sent.observed) == (Verdict.INFERRED, "medium", "mutual_tls")
    assert sent.client_certificate == "inferred_sent"


def test_rule_2_absence_known_by_inference_is_violated(judge: Judge) -> None:
    absent = judge("rep-to-bbs", "tls", SERVER13)
    assert (absent.verdict, absent.confidence) == (Verdict.VIOLATED, "high")
    assert rules(absent) == {"missing-client-certificate"}
    assert absent.client_certificate == "inferred_absent"


def test_rule_2_below_medium_nothing_is_claimed(judge: Judge) -> None:
    # one large record of a client that may pad: of low confidence
    padded = TLS13 | {"tls.client_records": (1221,), "tls.server_records": (2000, 500, 600), "tls.order": "CSscss"}
    answer = judge("rep-to-bbs", "tls", padded)
    assert (answer.verdict, answer.missing, rules(answer)) == (
        Verdict.UNVERIFIABLE,
        "encrypted",
        {"unverifiable-authentication"},
    )


def test_rule_3_late_certificates(judge: Judge) -> None:
    for late in (SERVER12, DECLINED12):
        answer = judge("rep-to-bbs", "tls", late | {"tls.late_handshake": True})
        assert (answer.verdict, answer.missing) == (Verdict.UNVERIFIABLE, "late_certificate")
    offered = SERVER13 | {"tls.post_handshake_auth_offered": True}
    # nobody asked: no flight of the client follows that ends as one with a certificate does
    assert judge("rep-to-bbs", "tls", offered).verdict is Verdict.VIOLATED
    maybe = offered | {"tls.client_records": (53, 300, 53), "tls.order": "CSsssssccscs"}
    assert judge("rep-to-bbs", "tls", maybe).missing == "late_certificate"
    both = maybe | {"tls.alpn_offered": ("h2", "http/1.1")}
    assert judge("rep-to-bbs", "tls", both).missing == "late_certificate"
    shown = offered | {"tls.client_records": (53, 300, 1099, 281, 53), "tls.order": "CSsssssccsccc" + "s" * 3}
    shown |= {"tls.server_records": (23, 954, 281, 53, 147, 200, 500)}
    assert (judge("rep-to-bbs", "tls", shown).verdict, judge("rep-to-bbs", "tls", shown).confidence) == (
        Verdict.INFERRED,
        "medium",
    )
    # HTTP/2 forbids it
    only = {"tls.alpn_offered": ("h2",), "tls.server_records": (32, 954, 281, 53, 147, 500, 700)}
    assert judge("rep-to-bbs", "https", maybe | only | {"tls.order": "CSsssssccssc"}).verdict is Verdict.VIOLATED
    # asked in the handshake
    asked = DECLINED13 | {"tls.post_handshake_auth_offered": True}
    assert judge("rep-to-bbs", "tls", asked).verdict is Verdict.VIOLATED
    # mutual all the same
    assert judge("rep-to-bbs", "tls", MUTUAL12 | {"tls.late_handshake": True}).verdict is Verdict.VERIFIED


def test_rule_4_ssh_in_the_clear(judge: Judge) -> None:
    whole = judge("ssh-proxy-to-app", "ssh", SSH, **SSH_PATH)
    assert (whole.verdict, whole.confidence, whole.observed) == (Verdict.INFERRED, "high", "ssh")
    less = judge("ssh-proxy-to-app", "ssh", {k: v for k, v in SSH.items() if k != "ssh.login"}, **SSH_PATH)
    assert less.verdict is Verdict.UNVERIFIABLE
    nothing = judge("ssh-proxy-to-app", "ssh", {"ssh.client_version": "2.0"}, **SSH_PATH)
    assert nothing.verdict is Verdict.UNVERIFIABLE


def test_rule_4_a_login_that_failed_is_rejected(judge: Judge) -> None:
    refused = SSH | {"ssh.login": "refused"}
    over = judge("ssh-proxy-to-app", "ssh", refused, state="SF", history="ShADadFf", **SSH_PATH)
    assert (over.verdict, rules(over)) == (Verdict.REJECTED, {"authentication-rejected"})
    for more in ({"state": "S1"}, {"state": "SF", "history": "ShADadFf", "lacks": ("gap",)}):
        assert judge("ssh-proxy-to-app", "ssh", refused, **(SSH_PATH | more)).verdict is Verdict.UNVERIFIABLE, more


def test_rule_4_method_none_that_was_accepted_is_a_violation(judge: Judge) -> None:
    answer = judge("ssh-proxy-to-app", "ssh", SSH | {"ssh.login": "none_accepted"}, **SSH_PATH)
    assert (answer.verdict, rules(answer)) == (Verdict.VIOLATED, {"missing-credentials"})


def test_rule_5_ssh_that_is_closed_on_without_a_word_was_turned_away(judge: Judge) -> None:
    """An ssh client at a port that wants TLS: its banner, and the other end closes."""
    banner = {"ssh.client_version": SSH["ssh.client_version"]}
    closed = judge("ssh-proxy-to-app", "ssh", banner, state="RSTR", history="ShADr", **SSH_PATH)
    assert (closed.verdict, rules(closed)) == (Verdict.REJECTED, {"authentication-rejected"})
    for more in ({"history": "ShADdr"}, {"state": "S1", "history": "ShAD"}, {"lacks": ("gap",), "history": "ShADr"}):
        answer = judge("ssh-proxy-to-app", "ssh", banner, **({"state": "RSTR"} | SSH_PATH | more))
        assert answer.verdict is Verdict.UNVERIFIABLE, more


@pytest.mark.parametrize(
    ("facts", "verdict", "fired"),
    [
        (MUTUAL12, Verdict.VERIFIED, set()),
        (MUTUAL13, Verdict.INFERRED, set()),
        (SERVER12, Verdict.VIOLATED, {"missing-client-certificate"}),
        (DECLINED13, Verdict.VIOLATED, {"missing-client-certificate"}),
        (REFUSED13, Verdict.REJECTED, {"authentication-rejected"}),
    ],
)
def test_rule_4_ssh_inside_tls_is_judged_like_mutual_tls(
    judge: Judge, facts: dict[str, Any], verdict: Verdict, fired: set[str]
) -> None:
    answer = judge("ssh-proxy-to-app", "tls", facts, **SSH_PATH)
    assert (answer.verdict, rules(answer)) == (verdict, fired)
    assert factors(answer) == {"ssh": verdict}


def test_rule_4_elsewhere_ssh_inside_tls_is_hidden(judge: Judge) -> None:
    answer = judge("ssh-proxy-to-app", "tls", SERVER12, **(SSH_PATH | {"port": 2222}))
    assert (answer.verdict, answer.missing) == (Verdict.UNVERIFIABLE, "hidden")


@pytest.mark.parametrize(
    ("path", "application", "facts"),
    [
        ("rep-to-bbs", "tls", {"tls.client_hello": True, "tls.server_alert": ("fatal", "handshake_failure")}),
        ("rep-to-bbs", "tls", DECLINED12 | {"tls.server_alert": ("fatal", "bad_certificate")}),
        ("rep-to-bbs", "tls", MUTUAL12 | {"tls.server_alert": ("fatal", "unknown_ca")}),
        ("rep-to-bbs", "tls", {"tls.client_hello": True, "tls.answered_with": "http"}),
        ("rep-to-bbs", "tls", REFUSED13),
        ("rep-to-bbs", "http", http(("none", "none", 400))),
        ("rep-to-bbs", "http", http(("none", "none", 403))),
        ("rep-to-bbs", "unknown", {"tls.alert_to_plaintext": ("fatal", "unexpected_message")}),
        ("route-emitter-to-nats", "nats", INFO | CONNECT | {"nats.error": "authorization_violation"}),
        ("bbs-to-mysql", "mysql", MYSQL | {"mysql.outcome": "error", "mysql.error": 1045}),
        ("rep-to-blobstore", "http", http(("none", "nginx", 410))),
    ],
)
def test_rule_5_turned_away(judge: Judge, path: str, application: str, facts: dict[str, Any]) -> None:
    facts = (
        {k: v for k, v in facts.items() if k != "tls.server_application_data"} if "tls.server_alert" in facts else facts
    )
    answer = judge(path, application, facts)
    assert answer.verdict is Verdict.REJECTED
    assert "authentication-rejected" in rules(answer)
    assert not rules(answer) & {"plaintext", "missing-credentials", "missing-client-certificate"}


@pytest.mark.parametrize(
    ("state", "history"), [("RSTR", "ShADr"), ("S3", "ShADf"), ("SF", "ShADFf"), ("RSTO", "ShADR")]
)
def test_rule_5_reset_or_close_straight_after_the_attempt(judge: Judge, state: str, history: str) -> None:
    hello = {"tls.client_hello": True, "tls.silent": "server"}
    answer = judge("rep-to-bbs", "tls", hello, state=state, history=history)
    assert answer.verdict is Verdict.REJECTED
    assert judge("rep-to-bbs", "tls", hello).verdict is Verdict.UNVERIFIABLE  # still open
    gone = judge("rep-to-bbs", "tls", hello, state=state, history=history, lacks=("one_way",))
    assert (gone.verdict, gone.missing) == (Verdict.UNVERIFIABLE, "one_way")


def test_rule_5_who_reset_is_told_right(judge: Judge) -> None:
    """The server closed and the client answered with a reset: the server did not reset."""
    hello = {"tls.client_hello": True, "tls.silent": "server"}
    for state, history, says in (
        ("RSTO", "ShADfR", "the server closed the connection"),
        ("RSTR", "ShADr", "the server reset the connection"),
        ("RSTR", "ShADFr", "the client closed the connection"),
        ("RSTO", "ShADR", "the client reset the connection"),
    ):
        answer = judge("rep-to-bbs", "tls", hello, state=state, history=history)
        assert says in answer.factors[0].says, (state, history)


def test_tls_that_hung_was_not_served_without_it(judge: Judge) -> None:
    """``any: [tls, none]``: none is fulfilled by who was served without TLS, not by who tried it and got nothing."""
    whole = Judge(load_policy(["routing"]))
    hello = {"tls.client_hello": True, "tls.silent": "server"}
    path = "gorouter-to-app-instances"
    hung = whole(path, "tls", hello)
    assert (hung.verdict, hung.confidence) == (Verdict.UNVERIFIABLE, None)
    begun = whole(path, "tls", {**hello, "tls.server_hello": True, "tls.version": "TLS 1.2", "tls.resumed": False})
    assert (begun.verdict, begun.confidence) == (Verdict.UNVERIFIABLE, None), "nor by who got a ServerHello and no more"
    plain = whole(path, "tls", {**hello, "tls.answered_with": "http"})
    assert plain.verdict is Verdict.REJECTED
    assert whole(path, "http", http(("none", "none", 200))).verdict is Verdict.VERIFIED
    assert whole(path, "tls", SERVER12).verdict is Verdict.VERIFIED
    assert whole(path, "tls", {"tls.midstream": True}, lacks=("midstream",)).verdict is Verdict.VERIFIED, (
        "nothing is asked for"
    )


def test_rule_5_violated_needs_acceptance(judge: Judge) -> None:
    silent = {k: v for k, v in SERVER12.items() if k != "tls.server_application_data"}
    answer = judge("rep-to-bbs", "tls", silent)
    assert (answer.verdict, answer.missing) == (Verdict.UNVERIFIABLE, "outcome")
    asked = judge("rep-to-bbs", "http", http(("none", "none", 0)))
    assert (asked.verdict, asked.missing) == (Verdict.UNVERIFIABLE, "outcome")


def test_rule_5_asked_and_declined_outcome_hidden(judge: Judge) -> None:
    for facts in (
        DECLINED12 | {"tls.client_records": (300,), "tls.server_records": (560,)},
        DECLINED13 | {"tls.client_records": (25, 53, 300), "tls.server_records": (23, 131, 954, 281, 53, 147, 560)},
    ):
        answer = judge("rep-to-bbs", "tls", facts, state="SF", history="ShADdfF")
        assert (answer.verdict, answer.missing) == (Verdict.UNVERIFIABLE, "outcome")
        assert "outcome hidden: a refusal inside TLS might look the same" in answer.factors[0].says
    served = judge(
        "rep-to-bbs",
        "tls",
        DECLINED12 | {"tls.client_records": (300,) * 5, "tls.server_records": (560,) * 5, "tls.order": "CS" + "cs" * 5},
    )
    assert served.verdict is Verdict.VIOLATED


def test_rule_5_a_certificate_that_crossed_and_answers_that_may_be_refusals(judge: Judge) -> None:
    """The certificate crossed; that the attempt was accepted is another fact, and nobody saw it."""
    answers = {"tls.client_records": (300,) * 3, "tls.server_records": (239,) * 3, "tls.order": "CS" + "cs" * 3}
    clear = judge("rep-to-bbs", "tls", MUTUAL12 | answers)
    assert (clear.verdict, clear.confidence) == (Verdict.VERIFIED, "medium")
    short = MUTUAL13 | {"tls.server_records": (23, 131, 954, 281, 53, 1012, 239)}
    hidden = judge("rep-to-bbs", "tls", short)
    assert (hidden.verdict, hidden.confidence) == (Verdict.INFERRED, "medium")
    for answer in (clear, hidden):
        assert "a refusal inside TLS might look the same" in answer.factors[0].says


def test_rule_5_gone_refuses_a_signed_url_and_nothing_else(judge: Judge, tas_diego: Policy) -> None:
    gone = judge("rep-to-blobstore", "http", http(("none", "nginx", 410)))
    assert (gone.verdict, rules(gone)) == (Verdict.REJECTED, {"authentication-rejected", "cleartext-credentials"})
    for facts, required in ((http(("none", "none", 410)), "mutual_tls"), (http(("basic", "none", 410)), "tls")):
        class_id = Classification(Disposition.DOCUMENTED, ("rep-to-bbs",), required=required)
        served = judge_all(tas_diego, Scene("http", facts, class_id))[0]
        assert (served.verdict, "plaintext" in rules(served)) == (Verdict.VIOLATED, True)


def test_rule_6_nats_info_decides(judge: Judge) -> None:
    path = "route-emitter-to-nats"
    assert judge(path, "nats", NATS).verdict is Verdict.VERIFIED
    unasked = NATS | {"nats.auth_required": False}
    assert judge(path, "nats", unasked).verdict is Verdict.UNVERIFIABLE
    unchecked = judge(path, "nats", unasked | {"nats.auth_required_after": False})
    assert (unchecked.verdict, rules(unchecked), unchecked.observed) == (
        Verdict.VIOLATED,
        {"missing-credentials"},
        "none",
    )
    assert judge(path, "nats", unasked | {"nats.auth_required_after": True}).verdict is Verdict.VERIFIED
    bare = {"nats.info": True, "nats.auth_required": False, "nats.pong": True, "nats.client_traffic": True}
    served = judge(path, "nats", bare)
    assert (served.verdict, rules(served)) == (Verdict.VIOLATED, {"missing-credentials"})
    assert judge(path, "nats", bare, lacks=("gap",)).verdict is Verdict.UNVERIFIABLE


def test_rule_6_inside_tls_the_kind_of_login_is_hidden(judge: Judge) -> None:
    path = "route-emitter-to-nats"
    for asks in (True, False):
        inside = judge(path, "nats", INFO | {"nats.auth_required": asks} | MUTUAL12)
        assert (inside.verdict, inside.counted, inside.observed) == (Verdict.UNVERIFIABLE, False, "mutual_tls")
    quiet = {k: v for k, v in MUTUAL12.items() if k != "tls.server_application_data"}
    assert judge(path, "nats", INFO | quiet).missing == "outcome"


def test_rule_6_nats_in_the_clear_is_what_its_row_documents(judge: Judge) -> None:
    assert rules(judge("route-emitter-to-nats", "nats", NATS)) == set()


def test_rule_6_other_credentials_at_nats(judge: Judge) -> None:
    token = NATS | {"nats.user": False, "nats.pass": False, "nats.token": True}
    answer = judge("route-emitter-to-nats", "nats", token)
    assert (answer.verdict, rules(answer)) == (Verdict.VIOLATED, {"wrong-authentication-method"})
    nothing = judge("route-emitter-to-nats", "nats", NATS | {"nats.user": False, "nats.pass": False})
    assert rules(nothing) == {"missing-credentials"}


@pytest.mark.parametrize("code", [1040, 1129, 1130, 1203, 1226])
def test_rule_5_an_error_about_capacity_or_a_host_refuses_no_login(judge: Judge, code: int) -> None:
    over = {"state": "SF", "history": "ShADadFf"}
    for facts in (
        {"mysql.outcome": "error", "mysql.error": code},
        MYSQL | {"mysql.outcome": "error", "mysql.error": code},
    ):
        answer = judge("bbs-to-mysql", "mysql", facts, **over)
        assert (answer.verdict, rules(answer)) == (Verdict.UNVERIFIABLE, {"unverifiable-authentication"})
    denied = judge("bbs-to-mysql", "mysql", MYSQL | {"mysql.outcome": "error", "mysql.error": 1045}, **over)
    assert denied.verdict is Verdict.REJECTED


def test_rule_6_a_later_login_is_judged_as_the_first(judge: Judge) -> None:
    changed = MYSQL | {"mysql.changed_user": "ok", "mysql.changed_response": "empty"}
    answer = judge("bbs-to-mysql", "mysql", changed)
    assert (answer.verdict, rules(answer)) == (Verdict.VIOLATED, {"missing-credentials"})
    assert judge("bbs-to-mysql", "mysql", changed | {"mysql.changed_response": "present"}).verdict is Verdict.VERIFIED


def test_rule_6_mysql_the_last_plugin_is_the_method(judge: Judge) -> None:
    path = "bbs-to-mysql"
    assert judge(path, "mysql", MYSQL).verdict is Verdict.VERIFIED
    empty = judge(path, "mysql", MYSQL | {"mysql.auth_response": "empty"})
    assert (empty.verdict, rules(empty)) == (Verdict.VIOLATED, {"missing-credentials"})
    switched = MYSQL | {
        "mysql.plugin_requested": "mysql_native_password",
        "mysql.plugin_switched": "caching_sha2_password",
    }
    other = judge(path, "mysql", switched | {"mysql.plugin": "caching_sha2_password"})
    assert (other.verdict, rules(other)) == (Verdict.VIOLATED, {"wrong-authentication-method"})
    assert other.observed == other.faults[0].about == "caching_sha2_password"
    back = judge(
        path, "mysql", MYSQL | {"mysql.plugin_offered": "auth_socket", "mysql.plugin_switched": "mysql_native_password"}
    )
    assert back.verdict is Verdict.VERIFIED
    clear = judge(path, "mysql", MYSQL | {"mysql.plugin": "mysql_clear_password"})
    assert rules(clear) == {"wrong-authentication-method", "cleartext-credentials"}


def test_rule_6_blobstore_tls_or_a_signed_url(judge: Judge) -> None:
    path = "rep-to-blobstore"
    inside = judge(path, "tls", SERVER12)
    assert (inside.verdict, rules(inside)) == (Verdict.VERIFIED, set())
    signed = judge(path, "http", http(("none", "nginx", 200)))
    assert (signed.verdict, rules(signed)) == (Verdict.VERIFIED, {"cleartext-credentials"})
    bare = judge(path, "http", http(("none", "none", 200)))
    assert (bare.verdict, rules(bare)) == (Verdict.VIOLATED, {"missing-credentials"})


def test_rule_7_plaintext_wherever_the_capture_starts(judge: Judge) -> None:
    for more in ({}, {"lacks": ("midstream",), "first_bytes": False, "state": "OTH"}):
        answer = judge("rep-to-bbs", "http", http(("none", "none", 200)), **more)
        assert (answer.verdict, rules(answer)) == (Verdict.VIOLATED, {"plaintext"})


@pytest.mark.parametrize(
    ("path", "application", "facts"),
    [
        ("route-emitter-to-nats", "nats", {"nats.client_traffic": True, "nats.server_traffic": True}),
        ("bbs-to-mysql", "unknown", None),
        ("ssh-proxy-to-app", "unknown", None),
        ("rep-to-bbs", "tls", {"tls.midstream": "both", "tls.client_application_data": True}),
    ],
)
def test_rule_7_what_authenticates_once_is_unverifiable_midstream(
    judge: Judge, path: str, application: str, facts: dict[str, Any] | None
) -> None:
    answer = judge(path, application, facts, lacks=("midstream",), first_bytes=False, state="OTH")
    assert (answer.verdict, answer.missing) == (Verdict.UNVERIFIABLE, "midstream")


def test_rule_8_an_attempt_is_not_judged(judge: Judge) -> None:
    answer = judge("rep-to-bbs", "none", established=False, state="REJ", history="Sr")
    assert (answer.verdict, answer.required) == (Verdict.NOT_APPLICABLE, "mutual_tls")


def test_rule_9_another_protocol_recognised(judge: Judge) -> None:
    answer = judge("rep-to-cc-uploader", "ssh", SSH, breach=Breach.APPLICATION)
    # wrong-application is the classification's finding; no second one for the same fact
    assert (answer.verdict, rules(answer)) == (Verdict.VIOLATED, set())


def test_rule_9_first_bytes_that_are_not_the_documented_protocols(judge: Judge) -> None:
    answer = judge("route-emitter-to-nats", "unknown", breach=Breach.APPLICATION)
    assert (answer.verdict, rules(answer)) == (Verdict.VIOLATED, set())


def test_rule_9_unrecognised_bytes_midstream(judge: Judge) -> None:
    answer = judge("rep-to-bbs", "unknown", lacks=("midstream",), first_bytes=False, state="OTH")
    assert answer.verdict is Verdict.UNVERIFIABLE


def test_rule_10_no_payload(judge: Judge) -> None:
    answer = judge("rep-to-bbs", "none", state="SF", history="ShAFf")
    assert (answer.verdict, answer.missing, answer.counted) == (Verdict.UNVERIFIABLE, "no_payload", False)
    assert judge("rep-to-bbs", "none", established=False, state="S0", history="S").verdict is Verdict.NOT_APPLICABLE
    # ... but where some was sent, and not captured, the capture is to blame
    for lacks in ("snaplen", "gap"):
        answer = judge("rep-to-bbs", "none", state="SF", history="ShAFf", lacks=(lacks,), first_bytes=False)
        assert (answer.verdict, answer.missing, answer.counted) == (Verdict.UNVERIFIABLE, lacks, True)


def test_rule_10_what_is_hidden_by_design_does_not_count(judge: Judge) -> None:
    assert judge("ssh-proxy-to-uaa", "https", MUTUAL12).counted is False
    # ... but what is missing of the session around it does
    broken = {k: v for k, v in SERVER12.items() if "finished" not in k and "data" not in k}
    assert judge("ssh-proxy-to-uaa", "tls", broken | {"tls.gap": "both"}, lacks=("gap",)).counted is True


def test_rule_11_the_decision_about_direction_is_made_before(tas_diego: Policy) -> None:
    # the bytes' client decides, whoever sorts first: the same handshake from either side
    wire = Wire()
    play(wire, shake(*contexts(V12, require=True)))
    swapped = Wire()
    talk = play(swapped, shake(*contexts(V12, require=True)))
    for packet in swapped.sent:
        packet.src, packet.dst = (talk.server, talk.client) if packet.src == talk.client else (talk.client, talk.server)
    class_id = documented(tas_diego, "rep-to-bbs")
    assert [judge_wire(tas_diego, each, class_id)[0].verdict for each in (wire, swapped)] == [Verdict.VERIFIED] * 2


def test_rule_12_whatever_a_stranger_authenticates_with(judge: Judge, tas_diego: Policy) -> None:
    stranger = Classification(Disposition.UNDECLARED, breach=Breach.UNKNOWN_HOST)
    answer = judge_all(tas_diego, Scene("tls", MUTUAL12, stranger))[0]
    assert (answer.verdict, answer.required, answer.faults) == (Verdict.NOT_APPLICABLE, None, ())


def test_rule_13_downgrade_of_ssh(judge: Judge) -> None:
    class_id = judge.on("ssh-proxy-to-app", orig_role="diego_brain", resp_role="diego_cell")
    failed = {"tls.client_hello": True, "tls.silent": "server"}

    def pair(port: int, second_s: float, ends: tuple[int, int] = (0, 1)) -> list[Authentication]:
        return judge_all(
            judge.policy,
            Scene("tls", failed, class_id, port=61011, state="RSTR", history="ShADr"),
            Scene("ssh", SSH, class_id, start_s=second_s, port=port, ends=ends),
        )

    for first, second in (pair(61011, 2.0), pair(61010, 59.0)):
        assert "authentication-downgrade" in rules(first) & rules(second)
        assert first.verdict is Verdict.REJECTED
    assert [fault.confidence for fault in pair(61010, 2.0)[1].faults] == ["medium"]
    for apart in (pair(61011, 61.0), pair(61500, 2.0), pair(61011, 2.0, (0, 2)), pair(61011, 2.0, (2, 1))):
        assert not any("authentication-downgrade" in rules(each) for each in apart)


def test_rule_13_downgrade_of_nats_on_any_of_its_ports(judge: Judge) -> None:
    class_id = judge.on("route-emitter-to-nats")
    failed = INFO | {"tls.client_hello": True, "tls.client_alert": ("fatal", "bad_certificate")}
    answers = judge_all(
        judge.policy,
        Scene("nats", failed, class_id, port=4224, state="RSTO", history="ShADdR"),
        Scene("nats", NATS, class_id, port=4222, start_s=5),
    )
    assert [each.verdict for each in answers] == [Verdict.REJECTED, Verdict.VERIFIED]
    assert all("authentication-downgrade" in rules(each) for each in answers)


def test_rule_13_downgrade_to_plaintext_and_not_the_other_way(judge: Judge) -> None:
    class_id = judge.on("rep-to-bbs")
    failed = Scene("tls", {"tls.client_hello": True, "tls.server_alert": ("fatal", "bad_certificate")}, class_id)
    plain = Scene("http", http(("none", "none", 200)), class_id, start_s=1)
    assert "authentication-downgrade" in rules(judge_all(judge.policy, failed, plain)[1])
    plain.start_s, failed.start_s = 0, 1
    assert "authentication-downgrade" not in rules(judge_all(judge.policy, plain, failed)[0])
    protected = Scene("tls", MUTUAL12, class_id, start_s=2)
    assert rules(judge_all(judge.policy, failed, protected)[1]) == set()


# Combinations, faults, what was observed


def test_all_take_the_worst_and_any_the_best(judge: Judge, tas_diego: Policy) -> None:
    both = Classification(Disposition.DOCUMENTED, ("rep-to-file-server",), required={"all": ["tls", "basic"]})
    answer = judge_all(tas_diego, Scene("http", http(("basic", "none", 200)), both))[0]
    assert factors(answer) == {"tls": Verdict.VIOLATED, "basic": Verdict.VERIFIED}
    assert (answer.verdict, rules(answer)) == (Verdict.VIOLATED, {"plaintext", "cleartext-credentials"})
    either = Classification(Disposition.DOCUMENTED, ("rep-to-blobstore",), required={"any": ["mutual_tls", "tls"]})
    answer = judge_all(tas_diego, Scene("tls", SERVER12, either))[0]
    assert factors(answer) == {"mutual_tls": Verdict.VIOLATED, "tls": Verdict.VERIFIED}
    assert (answer.verdict, answer.faults) == (Verdict.VERIFIED, ())


def test_no_authentication_documented(tas_diego: Policy) -> None:
    class_id = Classification(Disposition.AMBIENT, ("rep-to-blobstore",), required="none")
    answer = judge_all(tas_diego, Scene("http", http(("none", "none", 200)), class_id))[0]
    assert (answer.verdict, answer.observed, answer.faults) == (Verdict.VERIFIED, "none", ())


def test_ambient_is_judged_like_documented_and_without_a_path_nothing_is(tas_diego: Policy) -> None:
    ambient = Classification(Disposition.AMBIENT, ("rep-to-bbs",), required="mutual_tls")
    housekeeping = Classification(Disposition.AMBIENT)
    answers = judge_all(tas_diego, Scene("tls", SERVER12, ambient), Scene("tls", SERVER12, housekeeping))
    assert [each.verdict for each in answers] == [Verdict.VIOLATED, Verdict.NOT_APPLICABLE]


@pytest.mark.parametrize(
    ("suite", "weak"),
    [
        ("TLS_RSA_WITH_RC4_128_SHA", True),
        ("TLS_RSA_WITH_3DES_EDE_CBC_SHA", True),
        ("TLS_DH_anon_WITH_AES_128_CBC_SHA", True),
        ("TLS_RSA_EXPORT_WITH_DES40_CBC_SHA", True),
        ("TLS_RSA_WITH_NULL_SHA256", True),
        ("TLS_SHA256_SHA256", True),
        ("TLS_RSA_WITH_AES_128_CBC_SHA", False),
        ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", False),
    ],
)
def test_forbidden_suites(judge: Judge, suite: str, weak: bool) -> None:
    answer = judge("rep-to-bbs", "tls", MUTUAL12 | {"tls.cipher": suite})
    assert (answer.verdict, rules(answer)) == (Verdict.VERIFIED, {"weak-tls"} if weak else set())


def test_http_credentials_on_every_request(judge: Judge, tas_diego: Policy) -> None:
    class_id = Classification(Disposition.AMBIENT, ("rep-to-blobstore",), required="basic")

    def say(*exchanges: tuple[str, str, int]) -> Authentication:
        return judge_all(tas_diego, Scene("http", http(*exchanges), class_id))[0]

    assert say(("basic", "none", 200)).verdict is Verdict.VERIFIED
    assert say(("none", "none", 401), ("basic", "none", 200)).verdict is Verdict.VERIFIED
    assert say(("none", "none", 401)).verdict is Verdict.REJECTED
    assert rules(say(("basic", "none", 200), ("none", "none", 200))) == {"missing-credentials"}
    assert rules(say(("bearer", "none", 200))) == {"wrong-authentication-method", "cleartext-credentials"}


@pytest.mark.parametrize("kind", ["url_password", "url_token", "proxy"])
def test_credentials_beside_the_authorization_field_cross_in_the_clear_too(judge: Judge, kind: str) -> None:
    facts = http(("none", "none", 200)) | {"http.carried_beside": (kind,)}
    [fault] = [each for each in judge("rep-to-bbs", "http", facts).faults if each.rule == "cleartext-credentials"]
    assert (fault.about, fault.kinds) == (kind, ("http.carried_beside",))
    # HTTP that became TLS by CONNECT had its say in the clear; what keys opened had not.
    assert "cleartext-credentials" in rules(judge("rep-to-bbs", "http", facts | SERVER12))
    assert "cleartext-credentials" not in rules(judge("rep-to-bbs", "https", facts | SERVER12))


def test_certificates_that_no_handshake_proves(judge: Judge) -> None:
    no_proof = MUTUAL12 | {"tls.certificate_verify": False}
    assert judge("rep-to-bbs", "tls", no_proof).missing == "no_proof"
    unasked = judge("rep-to-bbs", "tls", MUTUAL12 | {"tls.certificate_requested": False})
    assert (unasked.verdict, unasked.missing) == (Verdict.UNVERIFIABLE, "no_proof")
    begun = {k: v for k, v in MUTUAL12.items() if "finished" not in k and "data" not in k}
    assert judge("rep-to-bbs", "tls", begun).verdict is Verdict.UNVERIFIABLE
    closed = judge("rep-to-bbs", "tls", begun, state="RSTR", history="ShADdr")
    assert closed.verdict is Verdict.REJECTED


def test_a_greeting_alone_is_no_login(judge: Judge) -> None:
    assert judge("bbs-to-mysql", "mysql", GREETING).missing == "no_login"
    assert judge("bbs-to-mysql", "mysql", GREETING | {"mysql.ssl_request": True}).verdict is Verdict.UNVERIFIABLE


# Sessions resumed


def test_ticket_of_tls_12_ties_to_its_origin(judge: Judge) -> None:
    class_id = judge.on("rep-to-bbs")
    resumed = TLS12 | {"tls.resumed": True, "tls.client_certificate": "unknown"}
    for first, verdict, fired in (
        (MUTUAL12, Verdict.INHERITED, set()),
        (SERVER12, Verdict.VIOLATED, {"missing-client-certificate"}),
    ):
        answers = judge_all(
            judge.policy,
            Scene("tls", first, class_id, own={"_link.ticket_issued": "t1", "_link.session_id": "s1"}),
            Scene("tls", resumed, class_id, own={"_link.ticket_offered": "t1", "_link.ticket_issued": "t2"}, start_s=1),
            Scene("tls", resumed, class_id, own={"_link.ticket_offered": "t2"}, start_s=2),
            Scene("tls", resumed, class_id, own={"_link.session_id": "s1", "_link.session_id_echoed": True}, start_s=3),
            Scene(
                "tls",
                resumed,
                class_id,
                own={"_link.ticket_offered": "t9", "_link.session_id": "s1", "_link.session_id_echoed": True},
                start_s=4,
            ),
        )
        assert [each.verdict for each in answers[1:4]] == [verdict] * 3
        assert all(rules(each) == fired and f"{0:020d}" in each.factors[0].says for each in answers[1:4])
        assert (answers[4].verdict, answers[4].missing) == (Verdict.UNVERIFIABLE, "resumed")


def test_resumption_in_tls_13_needs_a_full_handshake_of_the_same_pair(judge: Judge) -> None:
    class_id = judge.on("rep-to-bbs")
    day = 86_400.0

    def say(*scenes: Scene) -> Authentication:
        return judge_all(judge.policy, *scenes, Scene("tls", RESUMED13, class_id, start_s=scenes[-1].start_s + day))[-1]

    assert (say(Scene("tls", MUTUAL13, class_id)).verdict, say(Scene("tls", MUTUAL13, class_id)).confidence) == (
        Verdict.INHERITED,
        "medium",
    )
    others = (
        Scene("tls", MUTUAL13, class_id, ends=(2, 1)),
        Scene("tls", MUTUAL13, class_id, port=8891),
        Scene("tls", SERVER13, class_id),
        Scene("tls", MUTUAL12, class_id),
        Scene("tls", REFUSED13, class_id),
    )
    for other in others:
        assert (say(other).verdict, say(other).missing) == (Verdict.UNVERIFIABLE, "resumed")
    assert say(Scene("tls", MUTUAL13, class_id), Scene("tls", SERVER13, class_id, start_s=5)).missing == "resumed"
    assert (
        say(Scene("tls", MUTUAL13, class_id), Scene("none", None, class_id, start_s=6.5 * day)).verdict
        is Verdict.UNVERIFIABLE
    )
    assert (
        say(Scene("tls", MUTUAL13, class_id), Scene("none", None, class_id, start_s=5.5 * day)).verdict
        is Verdict.INHERITED
    )


LOST_HELLO = {"tls.client_hello": True, "tls.gap": "server"}
LOST_FLIGHT = {
    **TLS13, "tls.client_records": (), "tls.server_records": (23, 131), "tls.order": "CSss", "tls.gap": "both",
}  # fmt: skip
VEILED13 = DECLINED13 | {"tls.client_records": (25, 53, 300), "tls.server_records": (23, 131, 954, 281, 53, 147, 560)}


@pytest.mark.parametrize(
    ("facts", "lacks"), [(LOST_HELLO, ("gap",)), (LOST_FLIGHT, ("gap",)), (VEILED13, ()), (SERVER13, ()), (LOST_HELLO, ("one_way",))]
)  # fmt: skip
def test_what_may_have_been_resumed_without_a_certificate_is_not_inherited(
    judge: Judge, facts: dict[str, Any], lacks: tuple[str, ...]
) -> None:
    """Between the same ends a handshake without a certificate, or one that lost packets hide: in TLS 1.3 no tie says which one is resumed."""
    for path, verdict in (("rep-to-bbs", Verdict.UNVERIFIABLE), ("rep-to-file-server", Verdict.INHERITED)):
        class_id = judge.on(path)
        beside = Scene("tls", facts, class_id, start_s=1, lacks=lacks)
        full, _, after = judge_all(
            judge.policy, Scene("tls", MUTUAL13, class_id), beside, Scene("tls", RESUMED13, class_id, start_s=2)
        )
        assert full.verdict in GOOD
        assert after.verdict is verdict, after
        assert path != "rep-to-bbs" or "it is not known from which handshake" in after.factors[0].says
    class_id = judge.on("rep-to-bbs")
    for apart in ({"port": 8891}, {"ends": (2, 1)}):
        beside = Scene("tls", facts, class_id, start_s=1, lacks=lacks, **apart)
        scenes = (Scene("tls", MUTUAL13, class_id), beside, Scene("tls", RESUMED13, class_id, start_s=2))
        assert judge_all(judge.policy, *scenes)[2].verdict is Verdict.INHERITED


def test_a_resumed_session_never_lifts_an_unverifiable_one(judge: Judge) -> None:
    class_id = judge.on("rep-to-bbs")
    late = SERVER12 | {"tls.late_handshake": True}
    resumed = TLS12 | {"tls.resumed": True, "tls.client_certificate": "unknown"}
    answers = judge_all(
        judge.policy,
        Scene("tls", late, class_id, own={"_link.ticket_issued": "t"}),
        Scene("tls", resumed, class_id, own={"_link.ticket_offered": "t"}, start_s=1),
    )
    assert answers[1].verdict is Verdict.UNVERIFIABLE


# From bytes


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize(
    ("how", "verdicts"),
    [
        ({"require": True}, GOOD),
        ({"ask": True}, GOOD),
        ({"require": True, "show": False}, {Verdict.REJECTED}),
        ({"ask": True, "show": False}, {Verdict.VIOLATED, Verdict.UNVERIFIABLE}),
        ({}, {Verdict.VIOLATED}),
        ({"show": False}, {Verdict.VIOLATED}),
    ],
)
def test_real_handshakes(
    tas_diego: Policy, version: ssl.TLSVersion, how: dict[str, bool], verdicts: set[Verdict]
) -> None:
    wire = Wire()
    told = shake(*contexts(version, **how))
    play(wire, told, close="server" if told.failed else "client")
    answer = judge_wire(tas_diego, wire, documented(tas_diego, "rep-to-bbs"))[0]
    assert answer.verdict in verdicts
    assert (answer.verdict in GOOD) == (answer.observed == "mutual_tls")
    wanted = {V12: Verdict.VERIFIED, V13: Verdict.INFERRED}[version]
    assert answer.verdict not in GOOD or answer.verdict is wanted
    server_only = judge_wire(tas_diego, wire, documented(tas_diego, "rep-to-file-server"))[0]
    assert server_only.verdict is (Verdict.REJECTED if told.failed else Verdict.VERIFIED)


@pytest.mark.parametrize("version", [V12, V13])
def test_real_resumption(tas_diego: Policy, version: ssl.TLSVersion) -> None:
    ends = contexts(version, require=True)
    first = shake(*ends)
    wire = Wire()
    play(wire, first)
    play(wire, shake(*ends, session=first.session), cport=40_001)
    answers = judge_wire(tas_diego, wire, documented(tas_diego, "rep-to-bbs"))
    assert answers[0].verdict in {Verdict.VERIFIED, Verdict.INFERRED}
    assert answers[1].verdict is Verdict.INHERITED
    alone = Wire()
    play(alone, shake(*ends, session=first.session), cport=40_001)
    assert judge_wire(tas_diego, alone, documented(tas_diego, "rep-to-bbs"))[0].missing == "resumed"


def test_real_nats_upgrade(tas_diego: Policy) -> None:
    for auth in (b"true", b"false"):
        wire = Wire()
        info = (
            b'INFO {"server_id":"x","version":"2.9","auth_required":'
            + auth
            + b',"tls_required":true,"tls_verify":true}\r\n'
        )
        play(wire, shake(*contexts(V12, require=True)), sport=4224, before=info)
        answer = judge_wire(tas_diego, wire, documented(tas_diego, "route-emitter-to-nats"))[0]
        assert (answer.verdict, answer.missing, answer.observed) == (Verdict.UNVERIFIABLE, "hidden", "mutual_tls")


def test_real_http_in_the_clear(tas_diego: Policy) -> None:
    wire = Wire()
    told = shake(*contexts(V12))
    told.client[:], told.server[:] = (
        [(1, b"GET / HTTP/1.1\r\nHost: bbs\r\nAuthorization: Bearer abc\r\n\r\n")],
        [(2, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")],
    )
    play(wire, told)
    answer = judge_wire(tas_diego, wire, documented(tas_diego, "rep-to-bbs"))[0]
    assert rules(answer) == {"plaintext", "cleartext-credentials"}


# Packets that are missing


class Conversations(list[tuple[str, Wire]]):
    """A path of the policy, and what crossed. Short in what hypothesis prints."""

    def __repr__(self) -> str:
        return "conversations"


def _said(port: int, close: str, *turns: tuple[str, bytes]) -> Wire:
    """``C`` and ``S``: who says it."""
    wire = Wire()
    talk = Talk(wire, sport=port).opens()
    for who, data in turns:
        (talk.says if who == "C" else talk.answers)(data)
    if close == "client":
        talk.closes()
    elif close == "server":
        talk._s(FIN | ACK)
        talk._c(FIN | ACK)
        talk._s(ACK)
    return wire


def _get(target: bytes = b"/x", authorization: bytes = b"") -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n" + authorization + b"\r\n"


def _status(number: int) -> bytes:
    return b"HTTP/1.1 %d Said\r\nContent-Length: 2\r\n\r\nhi" % number


BASIC = b"Authorization: Basic eA==\r\n"
SIGNED = b"/x?md5=abc&expires=1"
PASSWORD = {"user": "u", "pass": "p"}
IN_THE_CLEAR: list[tuple[str, int, Verdict, list[tuple[str, bytes]]]] = [
    ("rep-to-bbs", 8889, Verdict.VIOLATED, [("C", _get()), ("S", _status(200)), ("C", _get()), ("S", _status(200))]),
    ("rep-to-bbs", 8889, Verdict.VIOLATED, [("C", _get()), ("S", _status(401)), ("C", _get(b"/", BASIC)), ("S", _status(200))]),
    ("rep-to-bbs", 8889, Verdict.REJECTED, [("C", _get()), ("S", _status(401))]),
    ("rep-to-blobstore", 8080, Verdict.VERIFIED, [("C", _get(SIGNED)), ("S", _status(200)), ("C", _get(SIGNED)), ("S", _status(200))]),
    ("rep-to-blobstore", 8080, Verdict.VIOLATED, [("C", _get(SIGNED)), ("S", _status(200)), ("C", _get()), ("S", _status(200))]),
    ("rep-to-blobstore", 8080, Verdict.VERIFIED, [("C", _get()), ("S", _status(403)), ("C", _get(SIGNED)), ("S", _status(200))]),
    ("route-emitter-to-nats", 4222, Verdict.VERIFIED, [("S", info(auth_required=True)), ("C", connect(**PASSWORD) + b"PING\r\n"), ("S", b"PONG\r\n"), ("C", b"PUB a 2\r\nhi\r\n")]),
    ("route-emitter-to-nats", 4222, Verdict.UNVERIFIABLE, [("S", info()), ("C", connect(**PASSWORD) + b"PING\r\n"), ("S", b"PONG\r\n"), ("C", b"PUB a 2\r\nhi\r\n")]),
    ("route-emitter-to-nats", 4222, Verdict.VIOLATED, [("S", info()), ("C", connect() + b"PING\r\n"), ("S", b"PONG\r\n"), ("C", b"PUB a 2\r\nhi\r\n")]),
    ("route-emitter-to-nats", 4222, Verdict.REJECTED, [("S", info(auth_required=True)), ("C", connect(**PASSWORD)), ("S", b"-ERR 'Authorization Violation'\r\n")]),
    ("bbs-to-mysql", 3306, Verdict.VERIFIED, [("S", mysql.greeting()), ("C", mysql.login()), ("S", mysql.packet(2, mysql.OK)), ("C", mysql.packet(0, b"\3SELECT 1"))]),
    ("bbs-to-mysql", 3306, Verdict.VIOLATED, [("S", mysql.greeting()), ("C", mysql.login(b"")), ("S", mysql.packet(2, mysql.OK)), ("C", mysql.packet(0, b"\3SELECT 1"))]),
    ("bbs-to-mysql", 3306, Verdict.REJECTED, [("S", mysql.greeting()), ("C", mysql.login()), ("S", mysql.packet(2, mysql.ERROR))]),
    (
        "bbs-to-mysql", 3306, Verdict.VERIFIED,
        [
            ("S", mysql.greeting()), ("C", mysql.login(b"")), ("S", mysql.packet(2, b"\xfemysql_native_password\0" + b"s" * 20 + b"\0")),
            ("C", mysql.packet(3, mysql.ANSWER)), ("S", mysql.packet(4, mysql.OK)), ("C", mysql.packet(0, b"\3SELECT 1")),
        ],
    ),
    (
        "ssh-proxy-to-app", 61010, Verdict.INFERRED,
        [
            ("C", ssh_.CLIENT), ("S", ssh_.SERVER + ssh_.SERVER_OFFER), ("C", ssh_.CLIENT_OFFER + ssh_.packet(30, b"x" * 36)),
            ("S", ssh_.packet(31, b"y" * 200) + ssh_.NEWKEYS), ("C", ssh_.NEWKEYS), *ssh_.said(ssh_.LOGIN),
        ],
    ),
]  # fmt: skip
CLOSES = ("client", "server", "")


@pytest.mark.parametrize("which", range(len(IN_THE_CLEAR)))
def test_conversations_in_the_clear(tas_diego: Policy, which: int) -> None:
    path, port, verdict, turns = IN_THE_CLEAR[which]
    for close in CLOSES:
        answer = judge_wire(tas_diego, _said(port, close, *turns), documented(tas_diego, path))[0]
        assert answer.verdict is verdict, (close, answer)


def _recorded(version: ssl.TLSVersion, close: str = "client", **how: bool) -> Wire:
    wire = Wire()
    play(wire, shake(*contexts(version, **how)), close=close)
    return wire


@pytest.fixture(scope="module")
def conversations() -> Conversations:
    made = Conversations()
    for version in (V12, V13):
        for how in ({"require": True}, {"ask": True, "show": False}, {}, {"require": True, "show": False}):
            for close in CLOSES:
                wire = _recorded(version, close, **how)
                made += [("rep-to-bbs", wire), ("rep-to-file-server", wire)]
    for path, port, _, turns in IN_THE_CLEAR:
        made += [(path, _said(port, close, *turns)) for close in CLOSES]
    return made


@settings(max_examples=max(200, settings().max_examples))
@given(st.integers(0, 89), st.integers(0, 2**30))
def test_dropping_packets_moves_a_verdict_only_towards_unverifiable(
    tas_diego: Policy, conversations: Conversations, which: int, seed: int
) -> None:
    path, wire = conversations[which]
    rng = random.Random(seed)
    payload = [at for at, packet in enumerate(wire.sent) if packet.data]
    gone = set(rng.sample(payload[:-1], rng.randint(1, min(3, len(payload) - 1))))
    class_id = documented(tas_diego, path)
    whole = judge_wire(tas_diego, wire, class_id)[0]
    table, certificates = follow(Wire([packet for at, packet in enumerate(wire.sent) if at not in gone]))
    class_of = np.zeros(len(table), np.int32)
    lossy = authenticate(table, [class_id], class_of, certificates=certificates, policy=tas_diego, options={})[0]
    if table.missed_bytes[0]:
        assert lossy.verdict in {whole.verdict, Verdict.UNVERIFIABLE}


@given(st.integers(0, 89), st.integers(0, 2**30))
def test_packets_out_of_order_within_50_ms(
    tas_diego: Policy, conversations: Conversations, which: int, seed: int
) -> None:
    path, wire = conversations[which]
    rng = random.Random(seed)
    late = [(packet.ts_ns + rng.randrange(50_000_000), at) for at, packet in enumerate(wire.sent)]
    mixed = [copy(wire.sent[at]) for _, at in sorted(late)]
    for packet, original in zip(mixed, wire.sent, strict=True):
        packet.ts_ns = original.ts_ns
    class_id = documented(tas_diego, path)
    whole = judge_wire(tas_diego, wire, class_id)[0]
    for answer in judge_wire(tas_diego, Wire(mixed), class_id):
        assert answer.verdict in {whole.verdict, Verdict.UNVERIFIABLE}


@given(st.integers(0, 89), st.integers(1, 30))
def test_a_lost_tail_gives_the_verdict_of_the_shorter_connection(
    tas_diego: Policy, conversations: Conversations, which: int, kept: int
) -> None:
    path, wire = conversations[which]
    short = Wire(wire.sent[: 3 + kept])
    class_id = documented(tas_diego, path)
    answer, whole = (judge_wire(tas_diego, each, class_id)[0] for each in (short, wire))
    # What was acknowledged and is not there is no lost tail but a gap; what nobody tells of never was.
    table, _ = follow(short)
    assert not table.missed_bytes[0]
    if answer.verdict in GOOD and whole.verdict not in GOOD:
        assert path == "rep-to-blobstore"  # a later request may still go without
    if answer.verdict is Verdict.VIOLATED:
        assert whole.verdict is Verdict.VIOLATED
    if kept >= len(wire.sent) - 3:
        assert answer == whole


# Speed


sizes = st.lists(
    st.sampled_from([19, 23, 25, 35, 41, 53, 61, 69, 85, 93, 96, 97, 131, 281, 300, 700, 954, 1040, 1040, 1097]),
    max_size=14,
).map(tuple)


@given(sizes, sizes, sizes, st.sampled_from(["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"]), st.booleans())
def test_equal_digests_have_equal_judgements(
    client: tuple[int, ...], server: tuple[int, ...], other: tuple[int, ...], suite: str, resumed: bool
) -> None:
    order = "s" * 5 + "ccc" + "cscsc" * 5
    shared = {"tls.version": "TLS 1.3", "tls.cipher": suite, "tls.resumed": resumed}
    digests = Digests()

    def look(c: tuple[int, ...], s: tuple[int, ...]) -> tuple[Any, Any]:
        facts = Facts(shared, {"tls.order": order, "tls.client_records": c, "tls.server_records": s})
        number = {"TLS_AES_128_GCM_SHA256": 0x1301}.get(suite, 0x1302)
        judged = judge_tls13(Tls13Flights(c, s, number, order=order, psk_selected=resumed))
        return digests.of(facts), (
            judged.client_certificate,
            judged.asked,
            judged.outcome,
            judged.confidence,
            judged.says,
        )

    def changed(told: tuple[int, ...]) -> tuple[int, ...]:
        """Lengths of what is probably data, changed."""
        return tuple(n + 37 if n in {300, 700} else n for n in told)

    for c, s in (
        (changed(client), changed(server)),
        (client, changed(server)),
        (changed(client), server),
        (client, other),
    ):
        one, two = look(client, server), look(c, s)
        if one[0] == two[0]:
            assert one[1] == two[1]


def test_many_alike_share_one_answer(judge: Judge) -> None:
    class_id = judge.on("rep-to-bbs")
    scenes = [
        Scene("tls", MUTUAL13 | {"tls.client_records": (889, 281, 53, 300 + k)}, class_id, start_s=k)
        for k in range(200)
    ]
    answers = judge_all(judge.policy, *scenes)
    assert len({id(each) for each in answers}) == 1
    assert len(table_of(scenes)) == 200


# The corpus of real stacks


def test_no_false_mutual_in_the_corpus(tas_diego: Policy) -> None:
    import csv

    from auditor.capture.opening import open_capture
    from auditor.conntrack import Tracker, build_table, decide_originators
    from auditor.decode import Decoder
    from auditor.inspectors._examine import Examiner
    from auditor.policy.addresses import to_text

    folder = ROOT / "captures" / "tls"
    examiner = Examiner()
    tracker, decoder = Tracker(examiner), Decoder()
    with open_capture(str(folder / "corpus.pcap.zst")) as reader:
        for batch in reader.batches():
            for packets in decoder.decode(batch):
                tracker.feed(packets, batch.buf)
    part = tracker.finish()
    table = build_table(part, *decide_originators(part), examiner.applications)
    class_id = documented(tas_diego, "rep-to-bbs")
    answers = authenticate(
        table,
        [class_id],
        np.zeros(len(table), np.int32),
        certificates=examiner.certificates.der,
        policy=tas_diego,
        options={},
    )
    by_host: dict[str, list[Authentication]] = {}
    for row, answer in enumerate(answers):
        by_host.setdefault(to_text(table.addresses[table.resp_h[row]]), []).append(answer)
    judged = 0
    with (folder / "corpus.truth.tsv").open(newline="") as lines:
        for told in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            here = by_host.get(told["resp_h"], [])
            nth = int(told["nth"])
            if not 0 < nth <= len(here):
                continue
            answer = here[nth - 1]
            judged += 1
            if answer.verdict in {Verdict.VERIFIED, Verdict.INFERRED}:
                assert told["truth"] in {"sent", "late"}, told
            if answer.verdict is Verdict.VIOLATED:
                assert told["truth"] in {"absent", "empty", "resumed", "unsure"}, told
            if told["truth"] == "sent":
                assert answer.verdict in {*GOOD, Verdict.REJECTED, Verdict.UNVERIFIABLE}, told
    assert judged > 2_000
