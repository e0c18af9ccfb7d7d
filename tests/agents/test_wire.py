"""The wire form of windows: what comes out is what went in, and any bytes give a window or a clear error."""

from __future__ import annotations

import io
import random
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor import pipeline
from auditor.agents import wire
from auditor.agents.partial import certificates_of, may_leave
from auditor.conntrack import TrackedPart
from auditor.errors import InputError
from auditor.inspectors._examine import Examiner
from auditor.model.connections import CONN, FRAME_BITS
from auditor.model.facts import Proof
from auditor.policy.loader import load_policy
from tests.conftest import BY_NIGHT

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "sample"
NAMES = ("lab.cell0.pcap.zst", "diego.pcapng")
INDEX = 3


@cache
def sent(name: str) -> tuple[pipeline.Followed, bytes, tuple[str, ...]]:
    """What is followed of a capture, as an agent would send it, and the same as bytes."""
    followed = pipeline.follow_one(str(SAMPLES / name), 0, {}, False)
    examiner = Examiner()
    may_leave(followed.part, examiner, last=True)
    certificates = certificates_of(followed.part.facts, {**followed.certificates, **examiner.certificates.der})
    followed = replace(followed, certificates=certificates)
    window = wire.Window("cell-0", "0123456789abcdef", 7, 10, 20, followed)
    return followed, wire.write_window(window, examiner.applications), examiner.applications


@pytest.mark.parametrize("name", NAMES)
def test_what_comes_out_is_what_went_in(name):
    followed, raw, _ = sent(name)
    window = wire.read_window(raw, "window", INDEX)
    assert (window.agent, window.life, window.number, window.began_ns, window.ended_ns) == (
        "cell-0",
        "0123456789abcdef",
        7,
        10,
        20,
    )
    one, other = followed.part, window.followed.part
    assert len(one.rows) == len(other.rows) > 50
    base = INDEX << FRAME_BITS
    for field in CONN.names or ():
        if field in ("first_frame", "last_frame"):
            assert (one.rows[field] + base == other.rows[field]).all()
        elif field != "side":
            assert (one.rows[field] == other.rows[field]).all(), field
    for field in one.rows["side"].dtype.names:
        mine, theirs = one.rows["side"][field], other.rows["side"][field]
        if field == "payload_frame":
            assert (np.where(mine >= 0, mine + base, mine) == theirs).all()
        elif field == "head_sum":
            assert ((mine == 0) == (theirs == 0)).all()
        elif field != "slot":
            assert (mine == theirs).all(), field
    told = 0
    for mine, theirs in zip([*one.facts, *[None] * (len(one.rows) - len(one.facts))], other.facts, strict=True):
        if mine is None:
            assert theirs is None
            continue
        values = {kind: value.fits() if isinstance(value, Proof) else value for kind, value in mine.items()}
        assert values == dict(theirs)
        assert all(type(value) is type(theirs[kind]) for kind, value in values.items())
        assert all(mine.certainty(kind) == theirs.certainty(kind) for kind in mine)
        assert all(tuple(frame + base for frame in mine.frames(kind)) == theirs.frames(kind) for kind in mine)
        told += len(values)
    assert told > 200
    assert not one.pending
    assert followed.certificates == window.followed.certificates
    assert list(one.second) == list(other.second)
    assert window.followed.capture.path == "agent://cell-0"
    assert window.followed.capture.packets == followed.capture.packets


def test_equal_facts_are_one_object_as_they_were():
    window = wire.read_window(sent(NAMES[0])[1], "window")
    facts = [fact for fact in window.followed.part.facts if fact is not None]
    assert len({id(fact.shared) for fact in facts}) < len(facts)


def test_nothing_is_a_window_too():
    nothing = pipeline.Followed(sent(NAMES[0])[0].capture, TrackedPart(np.zeros(0, CONN), []), {})
    raw = wire.write_window(wire.Window("a", "0" * 16, 1, 0, 1, nothing), ("none", "unknown"))
    assert len(wire.read_window(raw, "window").followed.part.rows) == 0
    assert len(raw) < 2_000


@pytest.mark.parametrize("raw", [b"", b"AUDWIN1\n", b"AUDWIN1\n" + bytes(64), b"\xd4\xc3\xb2\xa1" + bytes(60)])
def test_what_is_no_window_is_told_so(raw):
    with pytest.raises(InputError, match="no window that an agent sent"):
        wire.read_window(raw, "from cell-0")


def test_a_window_that_would_fill_the_memory_is_refused():
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(1 << 20))
    with pytest.raises(InputError):
        wire.read_window(wire.MAGIC + bytes(8) + bomb, "bomb")
    endless = zstandard.ZstdCompressor(level=1, write_content_size=False).compressobj()
    raw = endless.compress(bytes(1 << 16)) + endless.flush()
    with pytest.raises(InputError, match="does not say its size"):
        wire.read_window(wire.MAGIC + bytes(8) + raw, "bomb")


def test_one_of_another_version_says_so():
    with pytest.raises(InputError, match="another version"):
        wire.read_window(_changed(sent(NAMES[0])[1], lambda body: body.update(version="0")), "old")


@given(st.binary(max_size=400), st.integers(0, 1 << 30))
def test_any_bytes_give_a_window_or_one_clear_error(noise, at):
    raw = bytearray(sent(NAMES[0])[1])
    at %= len(raw)
    raw[at : at + len(noise)] = noise
    _tried(bytes(raw))


@settings(settings() if BY_NIGHT else settings.get_profile("few"))
@given(st.integers(0, 1 << 32))
def test_damage_inside_gives_a_window_that_can_be_judged_or_one_clear_error(seed):
    """As a hostile agent would send it: packed rightly, with numbers of its own."""
    random_of = random.Random(seed)
    raw = _changed(sent(NAMES[seed % 2])[1], lambda body: _mutate(body, random_of))
    window = _tried(raw)
    if window is not None:
        # What was let through does no harm to compiled code.
        other = wire.read_window(sent(NAMES[seed % 2])[1], "whole", 1)
        judge = pipeline.connections
        found = judge([io.BytesIO(), io.BytesIO()], options={}, follow=lambda *_: [window.followed, other.followed])
        assert len(found.connections) >= len(other.followed.part.rows) // 2


def _tried(raw: bytes) -> wire.Window | None:
    try:
        return wire.read_window(raw, "from cell-0")
    except InputError as error:
        assert "\n" not in str(error)
        return None


def _changed(raw, change):
    body = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(raw[wire.HEADER_BYTES :]))
    change(body)
    return raw[: wire.HEADER_BYTES] + zstandard.ZstdCompressor(level=1).compress(msgspec.msgpack.encode(body))


_ODD = (-1, 0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 25, 255, 256, 8191, 8192, 8193, 65_535, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 53, 1 << 61, 1 << 62, (1 << 63) - 1, -(1 << 62), -(1 << 63))  # fmt: skip


def _mutate(node, random_of, depth=0):
    """Change one thing somewhere below."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    if not keys:
        return
    key = random_of.choice(keys)
    value = node[key]
    if isinstance(value, dict | list) and value and (depth < 1 or random_of.random() < 0.8):
        _mutate(value, random_of, depth + 1)
    elif isinstance(value, bool):
        node[key] = not value
    elif isinstance(value, int):
        node[key] = random_of.choice((random_of.choice(_ODD), value + random_of.choice((-1, 1, 2, 255))))
    elif isinstance(value, bytes):
        noise = random_of.choice((b"\xff", b"\0", b"\x80", bytes([random_of.randrange(256)])))
        node[key] = (
            bytes(len(value)).replace(b"\0", noise)
            if random_of.random() < 0.5
            else bytes(random_of.sample(value, len(value)))
        )
    elif isinstance(value, str):
        node[key] = random_of.choice(("", "x" * 9, value[::-1], "\0"))
    else:
        node[key] = random_of.choice((None, 1, "x", b"", [], [[]]))


def test_a_policy_judges_what_was_sent_as_it_judges_the_capture():
    """The same verdicts, one capture, one window."""
    policy = load_policy(["tas-diego"])
    for name in NAMES:
        window = wire.read_window(sent(name)[1], "window", 0)
        here = pipeline.run([str(SAMPLES / name)], policy=policy, inventory=None, options={})
        there = pipeline.run(
            [io.BytesIO()], policy=policy, inventory=None, options={}, follow=lambda *_, w=window: [w.followed]
        )
        for column in (
            "id",
            "conn_state",
            "history",
            "application",
            "disposition",
            "authentication_verdict",
            "originator_packets",
        ):
            assert here.connections[column].astype(str).tolist() == there.connections[column].astype(str).tolist(), (
                column
            )
        assert here.findings["fingerprint"].tolist() == there.findings["fingerprint"].tolist()
        assert here.findings["evidence"].astype(str).tolist() == there.findings["evidence"].astype(str).tolist()
