"""Frames written as pcap records, against struct."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from auditor.kernels.save import RECORD_BYTES, write_pcap

frames = st.lists(
    st.tuples(st.binary(max_size=40), st.integers(0, 60), st.integers(0, 2**62), st.sampled_from((1, 113))), max_size=8
)


@given(frames=frames, room=st.integers(RECORD_BYTES + 40, 300), wanted=st.sampled_from((1, 113)))
def test_records_are_what_struct_makes_of_the_frames(frames, room, wanted):
    buf = np.frombuffer(b"".join(data for data, *_ in frames) + b"\0", np.uint8).copy()
    sizes = np.array([len(data) for data, *_ in frames], np.int64)
    start = np.concatenate([[0], np.cumsum(sizes)])[: len(frames)].astype(np.int64)
    wire = np.array([each[1] for each in frames], np.int64)
    stamps = np.array([each[2] for each in frames], np.int64)
    kinds = np.array([each[3] for each in frames], np.int32)
    out, at, written = np.zeros(room, np.uint8), 0, b""
    while at < len(frames):
        before = at
        at, filled = write_pcap(buf, start, sizes, wire, stamps, kinds, wanted, at, out)
        assert filled <= room
        assert at > before
        written += out[:filled].tobytes()
    expected = b"".join(
        struct.pack("<IIII", stamp // 10**9 % 2**32, stamp % 10**9, len(data), max(size, len(data))) + data
        for data, size, stamp, kind in frames
        if kind == wanted
    )
    assert written == expected
