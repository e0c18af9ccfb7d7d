"""Names of users are kept, and nothing that may be the secret itself."""

from __future__ import annotations

import base64

import pytest

from auditor.inspectors._names import basic_name, user_name


@pytest.mark.parametrize(
    "name",
    [
        "nats",
        "admin",
        "cc_uaa_client",
        "diego-ssh-proxy",
        "Jo Doe",
        "a@b.example",
        "internal_user",
        "b" * 23,
        "p.mysql_2",
    ],
)
def test_names(name: str) -> None:
    assert user_name(name.encode()) == name
    assert basic_name(b"Basic " + base64.b64encode(f"{name}:secret:word".encode())) == name


@pytest.mark.parametrize(
    "said",
    [
        b"", b"a " * 33, b"line\n", b"\x1b[2J", "Jörg".encode(), b"\xff\xfe", b"ghp_16C7e42F292c6912E7710c838347", b"0123456789abcdef01234567",
        b"glpat-abc", b"xoxb-12", b"sk_live_51", b"eyJhbGciOi", b"user 0123456789abcdef01234567",
    ],
)  # fmt: skip
def test_what_is_no_name_or_may_be_a_token(said: bytes) -> None:
    assert user_name(said) is None
    assert basic_name(b"Basic " + base64.b64encode(said + b":word")) is None


def test_a_name_that_holds_its_password_is_not_kept() -> None:
    assert user_name(b"nats", b"secret", b"") == "nats"
    assert user_name(b"nats", b"secret", b"nats") is None
    assert basic_name(b"Basic " + base64.b64encode(b"my-word:word")) is None


@pytest.mark.parametrize(
    "value",
    [
        b"Basic", b"Basic ", b"Basic !!!!", b"Basic YWRtaW4", b"Basic " + base64.b64encode(b"no colon"), b"Basic " + base64.b64encode(b"name:"),
        b"Basic " + base64.b64encode(b"name:x-oauth-basic"), b"Basic " + base64.b64encode(b"name:" + b"p" * 2_000),
    ],
)  # fmt: skip
def test_basic_without_a_name_and_a_password_tells_none(value: bytes) -> None:
    assert basic_name(value) is None
