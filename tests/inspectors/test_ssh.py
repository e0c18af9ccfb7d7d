"""SSH conversations."""

from __future__ import annotations

import struct

import pytest

from auditor.inspectors._examine import Examiner
from auditor.inspectors.ssh import probe
from auditor.model.roles import Match
from tests.inspectors.heads import Batch, head_of, says, streams

CLIENT, SERVER = b"SSH-2.0-Go\r\n", b"SSH-2.0-SSHD_1.2 diego\r\n"


def packet(kind: int, body: bytes = b"") -> bytes:
    payload = bytes([kind]) + body
    padding = 8 - (5 + len(payload)) % 8 + 4
    return struct.pack(">IB", 1 + len(payload) + padding, padding) + payload + bytes(padding)


def kexinit(*lists: str) -> bytes:
    names = [*lists, *[""] * (10 - len(lists))]
    return packet(20, bytes(16) + b"".join(struct.pack(">I", len(n)) + n.encode() for n in names) + bytes(5))


CLIENT_OFFER = kexinit("curve25519-sha256,ecdh-sha2-nistp256", "ssh-ed25519,ssh-rsa", "aes128-ctr,aes256-gcm@openssh.com", "aes128-ctr", "hmac-sha2-256", "hmac-sha2-256")  # fmt: skip
SERVER_OFFER = kexinit(
    "ecdh-sha2-nistp256", "ssh-rsa", "aes128-ctr", "aes128-ctr", "hmac-sha1,hmac-sha2-256", "hmac-sha1"
)
NEWKEYS = packet(21)


@pytest.fixture(scope="module")
def examiner() -> Examiner:
    return Examiner()


def test_login_is_packets_behind_both_newkeys(examiner: Examiner) -> None:
    application, side, facts = says(
        examiner,
        [(1, CLIENT), (3, CLIENT_OFFER + packet(30, b"x" * 36)), (5, NEWKEYS + b"\x9e" * 64)],
        [(2, SERVER + SERVER_OFFER), (4, packet(31, b"y" * 200) + NEWKEYS), (6, b"\x7f" * 80)],
    )
    assert (application, side) == ("ssh", 0)
    assert (facts["ssh.client_version"], facts["ssh.client_software"]) == ("2.0", "Go")
    assert facts["ssh.server_software"] == "SSHD_1.2 diego"
    assert facts["ssh.kex"] == "ecdh-sha2-nistp256"
    assert facts["ssh.host_key_algorithm"] == "ssh-rsa"
    assert (facts["ssh.cipher"], facts["ssh.mac"]) == ("aes128-ctr", "hmac-sha2-256")
    for name in ("client_newkeys", "server_newkeys", "client_encrypted", "server_encrypted"):
        assert facts[f"ssh.{name}"] is True
    assert facts.frames("ssh.client_newkeys") == (5,)


def test_key_exchange_tells_who_is_the_client(examiner: Examiner) -> None:
    asks, answers = CLIENT + CLIENT_OFFER + packet(30, b"x" * 36), SERVER + SERVER_OFFER + packet(31, b"y" * 200)
    assert says(examiner, asks, answers)[1] == 0
    application, side, facts = says(examiner, answers, asks)
    assert (application, side) == ("ssh", 1)
    assert facts["ssh.client_software"] == "Go"
    batch = Batch()
    batch.add(head_of(answers), head_of(asks), known=1)
    assert batch.examine(examiner).client_side.tolist() == [1]


def test_banners_alone_do_not_tell_sides(examiner: Examiner) -> None:
    application, side, facts = says(examiner, CLIENT, SERVER)
    assert (application, side) == ("ssh", -1)
    assert facts["_roles"] == "unknown"
    assert facts["ssh.client_newkeys"] is False
    batch = Batch()
    batch.add(head_of(CLIENT), head_of(SERVER), known=0)
    assert batch.examine(examiner).client_side.tolist() == [0]


def test_server_may_say_other_lines_first(examiner: Examiner) -> None:
    assert probe(streams(b"", b"Welcome\r\nto this host\r\n" + SERVER)) is Match.YES
    application, _, facts = says(examiner, CLIENT, b"Welcome\r\n" + SERVER)
    assert (application, facts["ssh.server_software"]) == ("ssh", "SSHD_1.2 diego")


def test_close_after_the_banners_is_no_newkeys(examiner: Examiner) -> None:
    facts = says(examiner, CLIENT, SERVER + packet(1, b"\0\0\0\x0b"))[2]
    assert facts["ssh.server_newkeys"] is False
    assert "ssh.server_encrypted" not in facts


def test_what_a_gap_hides_is_not_denied(examiner: Examiner) -> None:
    batch = Batch()
    batch.add(head_of(CLIENT + CLIENT_OFFER[:100], gap=True, ended=False), head_of(SERVER, ended=False), known=0)
    facts = batch.examine(examiner).facts[0]
    assert facts is not None
    assert "ssh.client_newkeys" not in facts and "ssh.server_newkeys" not in facts


def test_each_side_alone(examiner: Examiner) -> None:
    assert says(examiner, CLIENT, b"")[0] == "ssh"
    assert says(examiner, b"", SERVER)[0] == "ssh"


def test_malformed_packet(examiner: Examiner) -> None:
    facts = says(examiner, CLIENT + b"\xff" * 20, SERVER)[2]
    assert facts["ssh.malformed"] == "packet length out of bounds"
    assert facts["ssh.client_software"] == "Go"


def test_text_of_a_banner_is_escaped(examiner: Examiner) -> None:
    facts = says(examiner, b"SSH-2.0-\x1b[2J\x07evil\r\n", SERVER)[2]
    assert facts["ssh.client_software"] == r"\x1b[2J\x07evil"


def test_old_protocol_version_is_named(examiner: Examiner) -> None:
    facts = says(examiner, b"SSH-1.5-old\n", b"SSH-1.99-both\n")[2]
    assert (facts["ssh.client_version"], facts["ssh.server_version"]) == ("1.5", "1.99")


def test_random_words_are_not_ssh(examiner: Examiner) -> None:
    assert says(examiner, b"SSHELL hello\r\n", b"Welcome\r\n")[0] == "unknown"
