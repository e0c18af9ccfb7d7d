"""The catalogue's inspectors as arrays that the compiled first look can read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.kernels.signatures import MAX_SIGNATURE, TCP, UDP
from auditor.model.roles import Inspector

PROTOCOL_NUMBERS = {"tcp": TCP, "udp": UDP}


@dataclass(frozen=True, slots=True)
class SignatureTable:
    """A row a signature; an inspector's bit is its place in the list that the table was made of."""

    value: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    at: NDArray[np.int32]
    size: NDArray[np.int32]
    server: NDArray[np.bool_]
    protocol: NDArray[np.int32]
    transport: NDArray[np.uint8]
    decides: NDArray[np.bool_]


def build(inspectors: Sequence[Inspector]) -> SignatureTable:
    """Raises ValueError where a signature is too long or there are more inspectors than bits."""
    if len(inspectors) > 62:
        raise ValueError("more inspectors than bits")
    rows = [
        (place, signature, transport)
        for place, inspector in enumerate(inspectors)
        for signature in inspector.signatures
        for transport in ([0] if len(inspector.transports) > 1 else [PROTOCOL_NUMBERS[t] for t in inspector.transports])
    ]
    n = len(rows)
    value = np.zeros((n, MAX_SIGNATURE), dtype=np.uint8)
    mask = np.zeros((n, MAX_SIGNATURE), dtype=np.uint8)
    for i, (place, signature, _) in enumerate(rows):
        size = len(signature.value)
        if not 0 < size <= MAX_SIGNATURE or (signature.mask is not None and len(signature.mask) != size):
            raise ValueError(f"{inspectors[place].name}: a signature has 1 to {MAX_SIGNATURE} bytes, its mask as many")
        mask[i, :size] = np.frombuffer(signature.mask or b"\xff" * size, dtype=np.uint8)
        value[i, :size] = np.frombuffer(signature.value, dtype=np.uint8) & mask[i, :size]
    return SignatureTable(
        value,
        mask,
        np.array([signature.at for _, signature, _ in rows], dtype=np.int32),
        np.array([len(signature.value) for _, signature, _ in rows], dtype=np.int32),
        np.array([signature.side == "server" for _, signature, _ in rows], dtype=np.bool_),
        np.array([place for place, _, _ in rows], dtype=np.int32),
        np.array([transport for _, _, transport in rows], dtype=np.uint8),
        np.array([signature.decides for _, signature, _ in rows], dtype=np.bool_),
    )
