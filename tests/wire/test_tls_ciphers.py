"""Names of cipher suites against those of two other stacks."""

from __future__ import annotations

import re
import subprocess

import pytest

from auditor.wire.tls import is_grease, version_name
from auditor.wire.tls_ciphers import CIPHER_SUITES, cipher_name


def test_names_and_numbers_without_a_name() -> None:
    assert cipher_name(0x1301) == "TLS_AES_128_GCM_SHA256"
    assert cipher_name(0xC02F) == "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
    assert cipher_name(0x000A) == "TLS_RSA_WITH_3DES_EDE_CBC_SHA"
    assert cipher_name(0xFEFE) == "0xFEFE"
    assert len(CIPHER_SUITES) > 350


def test_versions_and_grease() -> None:
    assert [version_name(n) for n in (2, 0x0300, 0x0301, 0x0304, 0x7F1C, 0x0505)] == [
        "SSL 2.0",
        "SSL 3.0",
        "TLS 1.0",
        "TLS 1.3",
        "TLS 1.3 draft 28",
        "0x0505",
    ]
    assert is_grease(0x1A1A) and not is_grease(0x1A2A) and not is_grease(0x1301)


@pytest.mark.tshark
def test_agrees_with_tshark(tshark: str) -> None:
    listed = subprocess.run([tshark, "-G", "values"], capture_output=True, text=True, check=True).stdout
    theirs = {
        int(number): name
        for number, name in re.findall(r"^V\ttls\.handshake\.ciphersuite\t(\d+)\t(TLS_\S+)$", listed, re.M)
    }
    shared = theirs.keys() & CIPHER_SUITES.keys()
    assert len(shared) > 350
    assert {number for number in shared if theirs[number] != CIPHER_SUITES[number]} == set()
