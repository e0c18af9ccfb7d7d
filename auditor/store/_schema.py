"""The catalogue's tables, version by version.

A catalogue says its version in ``PRAGMA user_version``. ``STEPS[k]`` makes version ``k + 1`` of version ``k``, from the empty file on: so a new store goes the same way
as an old one, and each step is only ever added, never changed. Columns of Parquet pieces need no steps: a piece that lacks a column has nulls there.
"""

from __future__ import annotations

STEPS: tuple[str, ...] = (
    # 1: audits, their Parquet pieces, what was ever found, and the files that decided.
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE audits (
        audit INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        started_ns INTEGER NOT NULL,
        finished_ns INTEGER NOT NULL,
        first_ns INTEGER,
        last_ns INTEGER,
        captures INTEGER NOT NULL,
        packets INTEGER NOT NULL,
        connections INTEGER NOT NULL,
        findings INTEGER NOT NULL,
        new INTEGER NOT NULL,
        waived INTEGER NOT NULL,
        critical INTEGER NOT NULL,
        high INTEGER NOT NULL,
        medium INTEGER NOT NULL,
        low INTEGER NOT NULL,
        info INTEGER NOT NULL,
        complete INTEGER NOT NULL,
        body BLOB NOT NULL
    );
    CREATE INDEX audits_by_time ON audits (last_ns);
    CREATE TABLE pieces (
        file TEXT PRIMARY KEY,
        of TEXT NOT NULL,
        level INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        rows INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    );
    CREATE INDEX pieces_by_audit ON pieces (of, first);
    CREATE TABLE trash (file TEXT PRIMARY KEY, since_ns INTEGER NOT NULL);
    CREATE TABLE facts (
        fingerprint TEXT PRIMARY KEY,
        rule TEXT NOT NULL,
        severity TEXT NOT NULL,
        path TEXT,
        title TEXT NOT NULL,
        first_audit INTEGER NOT NULL,
        last_audit INTEGER NOT NULL,
        opened_audit INTEGER NOT NULL,
        first_seen_ns INTEGER NOT NULL,
        last_seen_ns INTEGER NOT NULL,
        gone_audit INTEGER,
        waived TEXT
    );
    CREATE TABLE deciders (sha256 TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, content BLOB NOT NULL);
    CREATE TABLE decided_by (
        audit INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        PRIMARY KEY (audit, sha256)
    ) WITHOUT ROWID;
    """,
    # 2: scheduled passes: which files were taken, what is handed from pass to pass, and what is still to be done.
    """
    CREATE TABLE taken (
        content TEXT PRIMARY KEY,
        path TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        audit INTEGER,
        aside TEXT,
        at_ns INTEGER NOT NULL
    );
    CREATE TABLE places (
        path TEXT PRIMARY KEY,
        bytes INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        content TEXT NOT NULL,
        at_ns INTEGER NOT NULL
    );
    CREATE TABLE following (path TEXT PRIMARY KEY, deaths INTEGER NOT NULL);
    CREATE TABLE carried (name TEXT PRIMARY KEY, file TEXT NOT NULL);
    CREATE TABLE errands (
        errand INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        audit INTEGER,
        what TEXT NOT NULL,
        tries INTEGER NOT NULL,
        due_ns INTEGER NOT NULL,
        made_ns INTEGER NOT NULL,
        says TEXT
    );
    """,
    # 3: what shows damage (checksums, what was lost), when an audit was kept by a clock that is believed, how often a finding comes back, how far a growing file was
    # audited, files whose own times say nothing, and what is known of each source of captures.
    """
    ALTER TABLE audits ADD COLUMN kept_ns INTEGER;
    ALTER TABLE pieces ADD COLUMN sha256 TEXT;
    ALTER TABLE pieces ADD COLUMN checked_ns INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE lost (
        file TEXT PRIMARY KEY,
        of TEXT NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        at_ns INTEGER NOT NULL,
        says TEXT NOT NULL
    );
    ALTER TABLE facts ADD COLUMN rhythm_ns INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE taken ADD COLUMN packets INTEGER;
    CREATE TABLE waiting (
        path TEXT PRIMARY KEY,
        bytes INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        since_ns INTEGER NOT NULL
    );
    CREATE TABLE sources (source TEXT PRIMARY KEY, state TEXT NOT NULL);
    """,
)

VERSION = len(STEPS)
