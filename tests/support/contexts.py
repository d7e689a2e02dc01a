"""What verbs need, with the parts no test cares about filled in."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from mqttpush.config import LimitSettings, SecuritySettings
from mqttpush.credentials import FailureCounter, Passwords, SecretMaker
from mqttpush.operations.context import Context
from mqttpush.sealing import Sealer
from mqttpush.store import Store
from mqttpush.store.blobs import Blobs


def make_context(
    store: Store, blobs: Blobs, passwords: Passwords, *, now_ms: Callable[[], int], **parts: Any
) -> Context:
    """Secrets come from a fixed seed. parts: of the context, other than usual."""
    source = random.Random(1)
    usual: dict[str, Any] = {
        "secrets": SecretMaker(source=source, server_key=b"key"),
        "failures": FailureCounter(SecuritySettings(), clock=lambda: 0.0),
        "limits": LimitSettings(),
        "endpoint_ttl_s": 0,
        "sealer": Sealer(master_key=bytes(32), random_bytes=source.randbytes),
    }
    return Context(
        store=store, blobs=blobs, passwords=passwords, now_ms=now_ms, **{**usual, **parts}
    )
