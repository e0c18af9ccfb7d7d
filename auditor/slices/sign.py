"""A signature over a bundle's manifest, made with the operator's SSH key: it can be checked with the public key and without this program.

    ssh-keygen -Y verify -f allowed_signers -I NAME -n auditor-bundle -s MANIFEST.sha256.sig < MANIFEST.sha256

What says *when* it was signed, by somebody else's clock (a time stamp as Sigstore's or RFC 3161's), needs a service, and is out of reach offline.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from auditor.errors import ConfigError, MissingToolError

NAMESPACE = "auditor-bundle"
_SECONDS = 120


def _program() -> str:
    found = shutil.which("ssh-keygen")
    if found is None:
        raise MissingToolError("ssh-keygen is needed for signatures and is not installed (package openssh-client)")
    return found


def sign(manifest: bytes, key: Path) -> bytes:
    """The signature (SSHSIG, armoured). Raises ConfigError, MissingToolError."""
    if not key.is_file():
        raise ConfigError(str(key), "is not a file", hint="--sign takes an SSH private key")
    with tempfile.TemporaryDirectory(prefix="auditor-sign-") as folder:
        place = Path(folder) / "manifest"
        place.write_bytes(manifest)
        done = subprocess.run(
            [_program(), "-Y", "sign", "-q", "-f", str(key), "-n", NAMESPACE, str(place)],
            capture_output=True, text=True, check=False, timeout=_SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        made = place.with_suffix(".sig")
        if done.returncode or not made.is_file():
            reason = (done.stderr.strip().splitlines() or ["ssh-keygen gave no reason"])[-1]
            raise ConfigError(
                str(key), f"cannot sign: {reason}", hint="name an SSH private key that ssh-keygen can use"
            )
        return made.read_bytes()


def check(manifest: bytes, signature: bytes, signers: Path | None) -> tuple[bool, str]:
    """Whether the signature is right, and by whom; without ``signers`` only whether it is right. Raises ConfigError, MissingToolError."""
    with tempfile.TemporaryDirectory(prefix="auditor-sign-") as folder:
        place = Path(folder) / "signature"
        place.write_bytes(signature)

        def asked(*arguments: str) -> subprocess.CompletedProcess[bytes]:
            return subprocess.run(
                [_program(), "-Y", *arguments, "-n", NAMESPACE, "-s", str(place)],
                input=manifest, capture_output=True, check=False, timeout=_SECONDS,
            )  # fmt: skip

        if signers is None:
            done = asked("check-novalidate")
            return done.returncode == 0, _said(done)
        if not signers.is_file():
            raise ConfigError(
                str(signers), "is not a file", hint="--signers takes a file as of ssh-keygen(1), ALLOWED SIGNERS"
            )
        named = asked("find-principals", "-f", str(signers))
        names = named.stdout.decode("utf-8", "replace").split()
        if named.returncode or not names:
            return False, "the signer is not in the file of accepted signers"
        done = asked("verify", "-f", str(signers), "-I", names[0])
        return done.returncode == 0, _said(done)


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    text = (done.stdout or done.stderr).decode("utf-8", "replace").strip()
    return text.splitlines()[0] if text else "ssh-keygen gave no reason"
