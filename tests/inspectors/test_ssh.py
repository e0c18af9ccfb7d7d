"""SSH conversations."""

from __future__ import annotations

import struct

import pytest

from auditor.inspectors._examine import Examiner
from auditor.inspectors.ssh import probe
from auditor.model.connections import FRAME_BITS
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


CLIENT_OFFER = kexinit("curve25519-sha256,ecdh-sha2-nistp256", "ssh-ed25519,ssh-rsa", "aes128-ctr,aes256-gcm@openssh.com", "aes128-ctr", "hmac-sha2-256", "hmac-sha2-256", "none", "none")  # fmt: skip
SERVER_OFFER = kexinit(
    "ecdh-sha2-nistp256",
    "ssh-rsa",
    "aes128-ctr",
    "aes128-ctr",
    "hmac-sha1,hmac-sha2-256",
    "hmac-sha1,hmac-sha2-256",
    "none",
    "none",
)
NEWKEYS = packet(21)


CTR = (16, 32, False)
"""Block, tag and whether the length stands apart and in the clear, of what the offers above lead to: aes128-ctr, hmac-sha2-256."""
GCM = (16, 16, True)
CHACHA = (8, 16, None)
"""None: apart, and hidden."""


def sealed(payload: int, how: tuple[int, int, bool | None] = CTR) -> bytes:
    """An encrypted packet with so much payload."""
    block, tag, apart = how
    length = -(-((5 if apart is False else 1) + payload + 4) // block) * block
    if apart is False:
        return b"\x9e" * (length + tag)
    return (struct.pack(">I", length) if apart else b"\x9e" * 4) + b"\x9e" * (length + tag)


LOGIN = [
    ("C", 17),
    ("S", 17),
    ("C", 35),
    ("S", 24),
    ("C", 53),
    ("S", 1),
    ("C", 24),
    ("S", 17),
    ("C", 40),
    ("S", 9),
    ("S", 60),
    ("S", 5),
]
"""Who sends how much payload: the service, method none refused, a password accepted, a channel opened."""
REFUSAL = [("C", 17), ("S", 17), ("C", 35), ("S", 24), ("C", 53), ("S", 24), ("C", 53), ("S", 24)]
NONE = [("C", 17), ("S", 17), ("C", 35), ("S", 1), ("C", 24), ("S", 17), ("C", 40), ("S", 9), ("S", 60), ("S", 5)]


def said(turns: list[tuple[str, int]], how: tuple[int, int, bool | None] = CTR) -> list[tuple[str, bytes]]:
    return [(side, sealed(payload, how)) for side, payload in turns]


CIPHERS = {"aes128-ctr": CTR, "aes256-gcm@openssh.com": GCM, "chacha20-poly1305@openssh.com": CHACHA}


def dialogue(
    turns: list[tuple[str, int]], cipher: str = "aes128-ctr", client: bytes = CLIENT, server: bytes = SERVER
) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
    """A whole conversation, a frame a packet."""
    offer = kexinit("curve25519-sha256", "ssh-rsa", cipher, cipher, "hmac-sha2-256", "hmac-sha2-256", "none", "none")
    sides = {
        "C": [(1, client), (3, offer + packet(30, b"x" * 36)), (5, NEWKEYS)],
        "S": [(2, server + offer), (4, packet(31, b"y" * 200) + NEWKEYS)],
    }
    for number, (side, data) in enumerate(said(turns, CIPHERS[cipher]), 6):
        sides[side].append((number, data))
    return sides["C"], sides["S"]


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


@pytest.mark.parametrize("cipher", list(CIPHERS))
@pytest.mark.parametrize(
    ("turns", "outcome"),
    [(LOGIN, "accepted"), (REFUSAL, "refused"), (NONE, "none_accepted")],
    ids=lambda each: str(each)[:6],
)
def test_lengths_say_what_became_of_a_login(
    examiner: Examiner, cipher: str, turns: list[tuple[str, int]], outcome: str
) -> None:
    facts = says(examiner, *dialogue(turns, cipher))[2]
    assert facts["ssh.login"] == outcome
    assert facts["ssh.login_confidence"] in {"high", "medium"}
    assert facts.frames("ssh.login")


def test_first_request_of_a_client_that_begins_with_its_password(examiner: Examiner) -> None:
    """Paramiko does not ask with method none: the first request may be accepted, and what is too short for a password is none."""
    for payload, outcome in ((60, "accepted"), (35, "none_accepted")):
        turns = [(side, payload if size == 35 else size) for side, size in NONE]
        facts = says(examiner, *dialogue(turns, "chacha20-poly1305@openssh.com", b"SSH-2.0-paramiko_5.1.0\r\n"))[2]
        assert facts["ssh.login"] == outcome
    unsaid = [(side, 60 if size == 35 else size) for side, size in NONE]
    facts = says(examiner, *dialogue(unsaid, "chacha20-poly1305@openssh.com", b"SSH-2.0-libssh_0.10.6\r\n"))[2]
    assert "ssh.login" not in facts


def test_a_refusal_that_leaves_no_method_is_as_short_as_success(examiner: Examiner) -> None:
    turns = [("C", 17), ("S", 17), ("C", 35), ("S", 6)]
    assert "ssh.login" not in says(examiner, *dialogue(turns, "aes256-gcm@openssh.com"))[2]
    assert says(examiner, *dialogue(turns, "chacha20-poly1305@openssh.com"))[2]["ssh.login"] == "refused"


def test_ignores_of_asyncssh_are_no_success(examiner: Examiner) -> None:
    name = b"SSH-2.0-AsyncSSH_2.24.1\r\n"
    refused = [("C", 17), ("S", 17), ("C", 35), ("S", 5), ("S", 40), ("C", 53), ("S", 5), ("S", 40)]
    accepted = [*refused[:-2], ("S", 5), ("S", 1), *LOGIN[6:]]
    for cipher in CIPHERS:
        assert says(examiner, *dialogue(refused, cipher, server=name))[2]["ssh.login"] == "refused"
        assert says(examiner, *dialogue(accepted, cipher, server=name))[2]["ssh.login"] == "accepted"


def test_dropbear_fills_success_up_to_16_bytes(examiner: Examiner) -> None:
    cipher, name = "chacha20-poly1305@openssh.com", b"SSH-2.0-dropbear_2022.83\r\n"
    filled = [(side, 8 if size == 1 else size) for side, size in LOGIN]
    assert says(examiner, *dialogue(filled, cipher, server=name))[2]["ssh.login"] == "accepted"
    assert "ssh.login" not in says(examiner, *dialogue(filled[:6], cipher, server=name))[2]


def test_a_gap_or_a_scan_shows_no_login(examiner: Examiner) -> None:
    client, server = dialogue(REFUSAL)
    batch = Batch()
    batch.add(head_of(client, gap=True), head_of(server), known=0)
    facts = batch.examine(examiner).facts[0]
    assert facts is not None and "ssh.login" not in facts
    assert "ssh.login" not in says(examiner, *dialogue([]))[2]
    assert "ssh.login" not in says(examiner, *dialogue(REFUSAL[:2]))[2]


def test_packets_of_several_captures_show_no_login(examiner: Examiner) -> None:
    """Numbers of frames order those of one capture alone."""
    for turns in (LOGIN, REFUSAL):
        client, server = dialogue(turns)
        elsewhere = [(1 << FRAME_BITS | number, data) for number, data in server]
        assert "ssh.login" not in says(examiner, client, elsewhere)[2]


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
