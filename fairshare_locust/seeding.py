"""Random streams that depend on seed, tenant and purpose, and on nothing else."""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["random_stream"]


def random_stream(seed: int, tenant_id: str, purpose: str) -> np.random.Generator:
    """A generator of its own for each purpose of each tenant, so that drawing more of one shifts no other.

    Python's own `hash` differs from process to process; SHA-256 does not.
    """
    digest = hashlib.sha256(f"{seed}/{tenant_id}/{purpose}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))
