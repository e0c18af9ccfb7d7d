"""What can go wrong, as a tree.

AuditorError                    every error this package raises on purpose
├── InputError                  a capture, or a place where captures should be, cannot be used
│   └── NotACaptureError        the bytes are no capture format we know
├── ConfigError                 a policy, inventory, waiver file or option is wrong; says file, place and fix
├── MissingToolError            an optional tool (tshark, ...) is needed and not installed
└── WireError                   bytes of a conversation contradict their protocol; inspectors raise it, the pipeline keeps it as data
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class AuditorError(Exception):
    """Base of all; ``str()`` is one line fit for a terminal."""


class InputError(AuditorError):
    """A capture, or a place where captures should be, cannot be used."""

    def __init__(self, path: str, says: str, offset: int | None = None) -> None:
        self.path, self.says, self.offset = path, says, offset
        place = "" if offset is None else f" at byte {offset}"
        super().__init__(f"{path}: {says}{place}")

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process to raise it again."""
        return type(self), (self.path, self.says, self.offset)


class NotACaptureError(InputError):
    """The bytes are no capture format we know."""


class ConfigError(AuditorError):
    """A policy, inventory, waiver file or option is wrong.

    ``hint`` says what to write instead. ``others``: what else is wrong there, so that all can be corrected at once.
    """

    def __init__(
        self,
        path: str,
        says: str,
        line: int | None = None,
        hint: str | None = None,
        others: tuple[ConfigError, ...] = (),
    ) -> None:
        self.path, self.says, self.line, self.hint, self.others = path, says, line, hint, others
        place = "" if line is None else f":{line}"
        cure = "" if hint is None else f" ({hint})"
        super().__init__(f"{path}{place}: {says}{cure}")
        for each in others:
            self.add_note(str(each))

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process to raise it again."""
        return type(self), (self.path, self.says, self.line, self.hint, self.others)

    @property
    def all(self) -> tuple[ConfigError, ...]:
        """Each mistake by itself."""
        return (ConfigError(self.path, self.says, self.line, self.hint), *self.others)


def together(errors: Iterable[ConfigError]) -> ConfigError:
    """One error, to be raised, of all that is wrong (one at least): the first, and the others with it."""
    first, *rest = errors
    return ConfigError(first.path, first.says, first.line, first.hint, tuple(rest))


class MissingToolError(AuditorError):
    """An optional tool is needed and not installed."""


class WireError(AuditorError):
    """Bytes of a conversation contradict their protocol, or end too early.

    ``kind`` is ``short`` (the head ends, more bytes might complete it), ``malformed``, or ``limit`` (more than the user's limits
    let be read). Never holds bytes of the wire.
    """

    def __init__(self, says: str, *, kind: str = "malformed", at: int = 0) -> None:
        self.says, self.kind, self.at = says, kind, at
        super().__init__(f"{says} at byte {at}")


def close_names(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Names that somebody who wrote this may have meant, the likeliest first."""
    from difflib import get_close_matches

    wanted = name.strip().lower().replace("_", "-")
    spelt = {each.lower().replace("_", "-"): each for each in sorted(set(known))}
    found = get_close_matches(wanted, list(spelt), most) or [each for each in spelt if wanted and wanted in each][:most]
    return [spelt[each] for each in found]


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """How to correct a misspelt name: what may have been meant; where nothing is like it, ``otherwise``."""
    close = close_names(name, known)
    return f"did you mean {' or '.join(close)}?" if close else otherwise
