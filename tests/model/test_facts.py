"""What is dear to check is checked when it is asked for, once, and travels as its answer."""

from __future__ import annotations

import pickle

from auditor.model.facts import SIGNATURE_FITS, Facts, Proof, signature_fits


def test_a_signature_is_checked_when_it_is_asked_for_and_once() -> None:
    asked: list[bool] = []
    facts = Facts({"tls.version": "TLS 1.2"}, {SIGNATURE_FITS: Proof(lambda: asked.append(True) or False)})
    assert SIGNATURE_FITS in facts
    assert asked == []
    assert signature_fits(facts) is False
    assert signature_fits(facts) is False
    assert asked == [True]


def test_it_travels_as_its_answer() -> None:
    for answer in (True, False, None):
        facts = Facts({}, {SIGNATURE_FITS: Proof(lambda answer=answer: answer)})  # type: ignore[misc]
        there = pickle.loads(pickle.dumps(facts))  # noqa: S301  # written just now
        assert signature_fits(there) is answer
        assert there == facts


def test_what_was_not_checked_is_not_told() -> None:
    assert signature_fits(Facts({})) is None
    assert signature_fits(Facts({SIGNATURE_FITS: True})) is True
