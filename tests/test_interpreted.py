"""Kernels once more as the plain Python they are compiled from: numpy checks every index there, and Python every name.

Compiled code checks bounds, too, whatever the environment says.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from auditor.kernels import tcpstate
from auditor.kernels.accelerate import kernel
from tests.conftest import ROOT

INTERPRETED = bool(os.environ.get("NUMBA_DISABLE_JIT", "0") != "0")

LONG = (
    "test_a_day_of_keep_alives_is_one_connection_judged_by_its_beginning",
    "test_an_answer_after_a_long_upload_is_kept",
    "test_doubles_across_parts_are_counted_once",
    "test_many_connections_over_all_limits",
    "test_ten_thousand_datagrams_in_pieces_need_no_more_memory",
    "test_frames_cut_off_anywhere",
)
COMPILED_ALONE = ("test_kernels_are_compiled_for_one_set_of_types",)
WITHOUT = tuple(f"--ignore=tests/kernels/test_{name}.py" for name in ("accelerate", "folder", "image"))
"""What is only about compiling."""


@kernel
def read(values, at):
    return values[at]


@kernel
def write(rows, at):
    rows[0].range_to[at] = 1


@pytest.mark.parametrize("at", [3, -4, 2**40])
def test_reading_outside_an_array_is_an_error(at: int) -> None:
    with pytest.raises(IndexError):
        read(np.zeros(3, np.uint8), at)


def test_writing_outside_an_array_of_a_record_is_an_error() -> None:
    rows = np.zeros(2, [("range_to", np.int32, (6,))])
    write(rows, 5)
    with pytest.raises(IndexError):
        write(rows, 6)
    assert rows["range_to"].sum() == 1


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreted run")
def test_kernels_are_compiled_here() -> None:
    track: Any = tcpstate.track
    assert track.dispatcher.targetoptions["boundscheck"] is True


@pytest.mark.night
@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="this is the interpreted run")
def test_kernels_are_right_as_plain_python() -> None:
    command = [
        sys.executable,
        "-W",
        "error::RuntimeWarning",
        "-m",
        "pytest",
        "-q",
        "--no-header",
        "-p",
        "no:cacheprovider",
    ]
    without = " or ".join((*LONG, *COMPILED_ALONE))
    ran = subprocess.run(
        [*command, "-n0", "-k", f"not ({without})", "tests/kernels", "tests/test_conntrack.py", *WITHOUT],
        cwd=ROOT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "HYPOTHESIS_PROFILE": "few"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-4_000:] + ran.stderr[-1_000:]
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed
    assert int(passed[1]) > 200
