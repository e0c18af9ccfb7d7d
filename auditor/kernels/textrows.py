"""Rows of CSV (RFC 4180) or JSON (RFC 8259) out of columns of numbers: what a table of hundreds of thousands of connections is written by.

A text is a word of a pool, ready as it stands in the file, quotes and all; most columns have few different ones. What stands between two values is a word, too:
a comma, or a comma and the next name.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from auditor.kernels.accelerate import inner, kernel, move_bytes
from auditor.model.connections import FRAME_BITS

# What a column holds.
WORD = 0  # the word of this number; -1: nothing
INTEGER = 1
NATURAL = 2  # an integer; -1: nothing; -2 - k: the word k
MOMENT = 3  # nanoseconds since 1970 as RFC 3339 in quotes
SECONDS = 4  # nanoseconds as seconds; -1 - k: the word k
LETTERS = 5  # so many of the row's own letters, from there on, in quotes; what lacks at their end is zero bytes
FRACTION = 6  # as SECONDS, and a whole number ends in .0
ITEMS = 7  # the row's evidence, the list of this number; -1 - k: the word k

NUMBER_BYTES = 34
"""No number, moment or span of time is longer, comma included."""

MAX_SECONDS_NS = 10**15 - 1
"""Up to here nanoseconds have at most 15 digits, and the shortest decimal fraction that means the same float64 has just these."""

_SMALL_CSV_NS, _SMALL_JSON_NS = 1_000, 10_000
"""Arrow writes what is below 1e-6 with an exponent, msgspec what is below 1e-5."""

_MOVED = 32
_DAY_NS = 86_400 * 10**9
ITEM_BYTES = 2 * (2 * 20 + 3) + 4
"""What an item of a list has at the most beside its word: two pairs of a capture and a frame, commas and brackets."""

_QUOTE, _COMMA, _MINUS, _POINT, _ZERO = 34, 44, 45, 46, 48
_OPEN, _CLOSE, _CLOSE_OBJECT = 91, 93, 125
_LETTER_E, _DASH, _COLON, _LETTER_T, _LETTER_Z = 101, 45, 58, 84, 90


@inner
def _decimal(out, at, value):
    """``value`` in decimal; gives where it ends. BOUNDS: the caller left NUMBER_BYTES."""
    if value < 0:
        # The least int64 has no positive twin; no column holds it.
        out[at] = _MINUS
        at += 1
        value = -value
    size = 1
    rest = value // 10
    while rest > 0:
        size += 1
        rest //= 10
    for k in range(size - 1, -1, -1):
        out[at + k] = _ZERO + value % 10
        value //= 10
    return at + size


@inner
def _text(out, at, source, first, size):
    """``source[first : first + size]``; gives where it ends."""
    end = at + size
    while at < end:
        # One size for all is a few instructions, not a call; what comes next is written over what is too much.
        if first + _MOVED <= source.size and at + _MOVED <= out.size:
            # BOUNDS: as was just asked; 0 <= first, where a word or the letters begin, and 0 <= at
            move_bytes(out, at, source, first, _MOVED)
            at += _MOVED
            first += _MOVED
        else:
            out[at] = source[first]
            at += 1
            first += 1
    return end


@inner
def _padded(out, at, value, size):
    """``value`` in ``size`` digits."""
    for k in range(size - 1, -1, -1):
        out[at + k] = _ZERO + value % 10
        value //= 10
    return at + size


@inner
def _moment(out, at, ns, digits):
    """``ns`` since 1970 as in RFC 3339 section 5.6, with 6 or 9 digits behind the second.

    The date from the days: years begin in March, so that the odd day comes last, and 400 of them are 146 097 days.
    """
    days = ns // _DAY_NS
    left = ns - days * _DAY_NS
    shifted = days + 719_468  # from 0000-03-01
    era = shifted // 146_097
    of_era = shifted - era * 146_097
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    year += era * 400
    month += 3
    if month > 12:
        month -= 12
        year += 1
    out[at] = _QUOTE
    at = _padded(out, at + 1, year, 4)
    out[at] = _DASH
    at = _padded(out, at + 1, month, 2)
    out[at] = _DASH
    at = _padded(out, at + 1, day, 2)
    out[at] = _LETTER_T
    seconds = left // 10**9
    at = _padded(out, at + 1, seconds // 3_600, 2)
    out[at] = _COLON
    at = _padded(out, at + 1, seconds // 60 % 60, 2)
    out[at] = _COLON
    at = _padded(out, at + 1, seconds % 60, 2)
    out[at] = _POINT
    fraction = left % 10**9
    at = _padded(out, at + 1, fraction if digits > 6 else fraction // 1_000, 9 if digits > 6 else 6)
    out[at] = _LETTER_Z
    out[at + 1] = _QUOTE
    return at + 2


@inner
def _seconds(out, at, ns, small_ns):
    """``ns`` / 1e9 as the shortest decimal fraction of that float64; below ``small_ns`` with an exponent. BOUNDS: 0 <= ns <= MAX_SECONDS_NS."""
    if ns == 0:
        out[at] = _ZERO
        return at + 1
    if ns < small_ns:  # D.DDe-N
        power = -9
        scale = 1
        while ns // scale >= 10:
            scale *= 10
            power += 1
        out[at] = _ZERO + ns // scale
        at += 1
        rest = ns % scale
        if rest > 0:
            out[at] = _POINT
            at += 1
            while rest > 0:
                scale //= 10
                out[at] = _ZERO + rest // scale
                at += 1
                rest %= scale
        out[at] = _LETTER_E
        out[at + 1] = _MINUS
        return _decimal(out, at + 2, -power)
    at = _decimal(out, at, ns // 10**9)
    rest = ns % 10**9
    if rest > 0:
        out[at] = _POINT
        at += 1
        scale = 10**8
        while rest > 0:
            out[at] = _ZERO + rest // scale
            rest %= scale
            scale //= 10
            at += 1
    return at


@inner
def _place(out, at, frame):
    """A frame number that carries its capture, as [capture,frame]."""
    out[at] = _OPEN
    at = _decimal(out, at + 1, frame >> FRAME_BITS)
    out[at] = _COMMA
    at = _decimal(out, at + 1, frame & ((1 << FRAME_BITS) - 1))
    out[at] = _CLOSE
    return at + 1


@inner
def _items(out, at, items, first, last, pool, pool_at):
    """A list of evidence: each the word that it begins with, up to two frames, and its end."""
    out[at] = _OPEN
    at += 1
    for k in range(first, last):
        if k > first:
            out[at] = _COMMA
            at += 1
        word, one, two = items[k, 0], items[k, 1], items[k, 2]
        at = _text(out, at, pool, pool_at[word], pool_at[word + 1] - pool_at[word])
        if one > 0:
            at = _place(out, at, one)
        if two > 0:
            out[at] = _COMMA
            at = _place(out, at + 1, two)
        out[at] = _CLOSE
        out[at + 1] = _CLOSE_OBJECT
        at += 2
    out[at] = _CLOSE
    return at + 1


@kernel
def write_rows(
    columns: NDArray[np.int64],
    numbers: NDArray[np.int64],
    digits: NDArray[np.uint8],
    letters: NDArray[np.uint8],
    items: NDArray[np.int64],
    items_at: NDArray[np.int64],
    pool: NDArray[np.uint8],
    pool_at: NDArray[np.int64],
    end: int,
    out: NDArray[np.uint8],
) -> int:
    """Rows into ``out``; gives how many bytes they are.

    ``columns`` int64[c, 4]: what a column holds, for LETTERS first letter and size, and the word before its value (-1: none). ``numbers`` int64[c, n]: a row a
    column. ``digits`` uint8[n]: of the moments of each row, 6 or 9. ``letters`` uint8[n, m]. ``items`` int64[i, 3]: the word that an item of a list of evidence
    begins with, up to and with the bracket of its frames, and two frames with their captures above FRAME_BITS (0: none); ``items_at`` int64[k + 1]: where each
    list begins and the last one ends. ``pool`` uint8[], ``pool_at`` int64[w + 1]: where each word begins and the last one ends. ``end``: the word behind each row.
    ``out`` has room for all rows: of every value its word and the one before it, NUMBER_BYTES, its letters and 3, or 2 and for each item its word and ITEM_BYTES.
    """
    at = 0
    for row in range(numbers.shape[1]):
        for column in range(columns.shape[0]):
            kind = columns[column, 0]
            value = numbers[column, row]
            before = columns[column, 3]
            if before >= 0:
                at = _text(out, at, pool, pool_at[before], pool_at[before + 1] - pool_at[before])
            word = np.int64(-1)
            if kind == WORD:
                word = value
            elif (kind in (SECONDS, FRACTION, ITEMS)) and value < 0:
                word = -1 - value
            elif kind == NATURAL and value < 0:
                word = -2 - value
            elif kind in (INTEGER, NATURAL):
                at = _decimal(out, at, value)
            elif kind == MOMENT:
                at = _moment(out, at, value, digits[row])
            elif kind in (SECONDS, FRACTION):
                at = _seconds(out, at, value, _SMALL_CSV_NS if kind == SECONDS else _SMALL_JSON_NS)
                if kind == FRACTION and value % 10**9 == 0:
                    out[at] = _POINT
                    out[at + 1] = _ZERO
                    at += 2
            elif kind == ITEMS:
                at = _items(out, at, items, items_at[value], items_at[value + 1], pool, pool_at)
            else:
                out[at] = _QUOTE
                at += 1
                first, size = columns[column, 1], columns[column, 2]
                if size > 0 and letters[row, first + size - 1] == 0:
                    size = 0
                    while letters[row, first + size] != 0:
                        size += 1
                at = _text(out, at, letters[row], first, size)
                out[at] = _QUOTE
                at += 1
            if word >= 0:
                at = _text(out, at, pool, pool_at[word], pool_at[word + 1] - pool_at[word])
        at = _text(out, at, pool, pool_at[end], pool_at[end + 1] - pool_at[end])
    return at
