"""Codes to tables: shared objects stay shared, and what is inferred takes the place of what the wire could not tell."""

from __future__ import annotations

import numpy as np
import pandas as pd

from auditor.model.facts import Facts
from auditor.model.judgement import Authentication, Verdict
from auditor.model.tables import _protocol_objects, ascii_texts, coded, coded_values, spread, tell_inferred_certificates


def test_a_categorical_folds_names_that_occur_twice():
    made = coded(np.array([0, 1, 2, -1]), ["cell", "brain", "cell"])
    assert list(made.categories) == ["cell", "brain"]
    assert [each if isinstance(each, str) else None for each in made] == ["cell", "brain", "cell", None]


def test_values_without_a_word_are_null():
    made = pd.Series(coded_values(np.array([1, 0, 1]), [None, "rep"]))
    assert made.isna().tolist() == [False, True, False]


def test_rows_share_what_is_spread():
    both = spread(np.array([0, -1, 0]), [("diego_cell",)])
    assert both[0] is both[2]
    assert both[1] is None


def test_ascii_of_fixed_size_becomes_text():
    assert list(ascii_texts(np.array([b"abc", b"xyz"], "S3"))) == ["abc", "xyz"]


def test_record_lengths_tell_of_a_certificate_that_is_encrypted():
    hello = {"version": "TLS 1.3", "client_certificate": "unknown"}
    tls = np.array([hello, hello, None, hello], dtype=object)
    sent = Authentication(verdict=Verdict.INFERRED, client_certificate="inferred_sent")
    tell_inferred_certificates(tls, [sent, sent, sent, Authentication()])
    assert tls[0]["client_certificate"] == "inferred_sent"
    assert tls[0] is tls[1]
    assert tls[2] is None
    assert tls[3] is hello
    assert hello["client_certificate"] == "unknown"


def test_a_client_certificate_that_nobody_could_see_is_unknown_and_not_missing():
    """TLS met in its middle, or never answered; what is no TLS has no word of it."""
    midstream, asked = Facts({"tls.midstream": "both"}), Facts({"tls.client_certificate": "not_asked"})
    made = _protocol_objects([midstream, asked, None, Facts({"nats.info": True})])
    assert made["tls"].tolist() == [
        {"midstream": "both", "client_certificate": "unknown"},
        {"client_certificate": "not_asked"},
        None,
        None,
    ]
    assert made["nats"][3] == {"info": True}
