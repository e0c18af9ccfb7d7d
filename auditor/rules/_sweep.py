"""Many attempts in a short time: what `port-sweep` reports and `undeclared-attempt` leaves out.

A sweep is one originating address that tried SWEEP_TARGETS distinct (responder, port) pairs, none of which was established, inside SWEEP_WINDOW_NS.
Attempts are counted by target, not by packet: a client that retries one dead port for an hour is no sweep.

The count of distinct targets in a sliding window, without a loop over attempts: order the attempts by time. Attempt j is the window's newest one
of its target for every window that ends at an attempt i with j <= i < (next attempt of the same target) and t[i] <= t[j] + window. Adding one over
that run of i, for every j, by a difference array, gives the number of distinct targets of every window.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from auditor.model.judgement import Breach, Outcome
from auditor.rules._subject import Mask, View, holds

SWEEP_TARGETS = 10
"""So many distinct (responder, port) pairs make a sweep: more than the VMs of one role that a component dials in turn when they are all down."""

SWEEP_WINDOW_NS = 60 * 1_000_000_000
"""... within this time."""


def attempts(table: pd.DataFrame) -> Mask:
    """Undeclared attempts, of TCP those whose SYN was seen: it tells what was tried, and by whom."""
    return _undeclared(table) & _opened(table)


def fragments(table: pd.DataFrame) -> Mask:
    """What is left of undeclared attempts whose SYN was not captured: a reset alone answers somebody else, and its sender tried nothing."""
    return _undeclared(table) & ~_opened(table)


def _undeclared(table: pd.DataFrame) -> Mask:
    return holds(table, "breach", Breach.ATTEMPT) & holds(table, "outcome", Outcome.ATTEMPT)


def _opened(table: pd.DataFrame) -> Mask:
    opened = (table["transport"] != "tcp").to_numpy() | table["history"].astype(str).str.contains("S").to_numpy()
    return np.asarray(opened, dtype=np.bool_)


def crowded(times: npt.NDArray[np.int64], targets: npt.NDArray[np.int64], least: int, window_ns: int) -> Mask:
    """Which attempts lie in a window that holds at least so many distinct targets.

    Parameters: times in ns, rising, shape (n,); a number for each target, shape (n,); the threshold; the window's length.
    """
    count = len(times)
    order = np.lexsort((np.arange(count), targets))
    again = np.full(count, count)
    same = targets[order][1:] == targets[order][:-1]
    again[order[:-1][same]] = order[1:][same]
    # the first attempt after each one's window
    after = np.minimum(again, np.searchsorted(times, times + window_ns, side="right"))
    steps = np.zeros(count + 1, dtype=np.int64)
    np.add.at(steps, np.arange(count), 1)
    np.add.at(steps, after, -1)
    distinct = np.cumsum(steps)[:count]
    full = np.flatnonzero(distinct >= least)
    begin = np.searchsorted(times, times[full] - window_ns, side="left")
    cover = np.zeros(count + 1, dtype=np.int64)
    np.add.at(cover, begin, 1)
    np.add.at(cover, full + 1, -1)
    return np.asarray(np.cumsum(cover)[:count] > 0)


def sweeping(table: pd.DataFrame) -> Mask:
    """Which rows of the connections table are part of a sweep, shape (n,)."""
    swept = np.zeros(len(table), dtype=np.bool_)
    view = View(table, attempts(table))
    if len(view) < SWEEP_TARGETS:
        return swept
    originators = pd.factorize(view.column("originator_ip"))[0]
    hosts = pd.factorize(view.column("responder_ip"))[0].astype(np.int64)
    targets = hosts * 65_537 + view.port
    times = np.asarray(view.column("start"), dtype=np.int64)
    order = np.lexsort((times, originators))
    edges = np.flatnonzero(np.diff(originators[order])) + 1
    for mine in np.split(order, edges):
        if len(mine) >= SWEEP_TARGETS:
            hit = crowded(times[mine], targets[mine], SWEEP_TARGETS, SWEEP_WINDOW_NS)
            swept[view.at[mine[hit]]] = True
    return swept
