"""Addresses as numbers."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.policy.addresses import around, kind_of, span, to_int, to_text


@given(address=st.ip_addresses())
def test_there_and_back(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    mapped = address.version == 6 and address.ipv4_mapped is not None
    assert to_text(to_int(str(address))) == (str(address.ipv4_mapped) if mapped else str(address))


@pytest.mark.parametrize("text", ["fe80::1%eth0", "[fe80::1]", " fe80::1 ", "fe80::1/128"])
def test_spellings(text: str) -> None:
    assert to_text(to_int(text)) == "fe80::1"


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.0/24", "::/64", "name"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        to_int(text)


@given(address=st.ip_addresses())
def test_kinds_agree_with_the_standard_library(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    kind = kind_of(to_int(str(address)))
    if address.version == 6 and address.ipv4_mapped is not None:
        return
    if str(address) == "169.254.169.254":
        assert kind is None
    elif kind is None:
        assert not (address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified)
    else:
        assert (
            address.is_loopback or address.is_link_local or address.is_multicast or kind in ("unspecified", "broadcast")
        )


def test_neighbourhoods() -> None:
    assert around(to_int("10.0.4.77")) == span(ipaddress.ip_network("10.0.4.0/24"))
    assert around(to_int("fd00::1:2")) == span(ipaddress.ip_network("fd00::/64"))
