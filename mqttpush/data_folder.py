"""The data folder: what lies beside the embedded database, for as long as it must.

Owns the server's key, the lock of the one server that runs on a store, and the note that tells the
command line where it listens. Knows nobody who uses them.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mqttpush.config import Settings
from mqttpush.errors import ConfigError
from mqttpush.store.sqlite import DSN_PREFIX, MEMORY

KEY_FILE: Final = "server.key"
READY_FILE: Final = "server.json"
LOCK_FILE: Final = "server.lock"
MIN_KEY_BYTES: Final = 32


def data_folder(settings: Settings) -> Path | None:
    path = settings.store.dsn.removeprefix(DSN_PREFIX)
    return None if path == MEMORY else Path(path).parent


def server_key(settings: Settings) -> bytes:
    """The key MQTT passwords derive from: made at the first start, beside the database."""
    folder = data_folder(settings)
    if folder is None:
        return os.urandom(32)
    path = folder / KEY_FILE
    try:
        if not path.exists():
            # Written elsewhere first: whoever starts at the same moment must not read half a key.
            draft = path.with_suffix(f".{os.getpid()}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(os.urandom(32))
            with suppress(FileExistsError):
                path.hardlink_to(draft)
            draft.unlink()
        return path.read_bytes()
    except OSError as exc:
        problem = f"cannot keep the server's key: {exc.strerror}"
        raise ConfigError("store.dsn", str(path), problem) from exc


def encryption_key(settings: Settings, key_file: Path | None = None) -> bytes:
    """The key that seals credentials of push networks; raises ConfigError.

    key_file: instead of the one in the settings.
    """
    named = settings.security.encryption_key_file
    path = key_file or (Path(named) if named else None)
    if path is None:
        return server_key(settings)
    setting, example = "security.encryption_key_file", "head -c 32 /dev/urandom > encryption.key"
    try:
        key = path.read_bytes()
    except OSError as exc:
        raise ConfigError(setting, str(path), f"cannot be read: {exc.strerror}", example) from exc
    if len(key) < MIN_KEY_BYTES:
        problem = f"has {len(key)} bytes, {MIN_KEY_BYTES} are needed"
        raise ConfigError(setting, str(path), problem, example)
    return key


@contextmanager
def only_server(settings: Settings) -> Iterator[None]:
    """Hold the store's lock while serving: what another process commits would reach no client here.

    The kernel drops the lock with the process, however that ends. Raises ConfigError.
    """
    folder = data_folder(settings)
    if folder is None:
        yield
        return
    with (folder / LOCK_FILE).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            problem = "another mqttpush server runs on this store"
            raise ConfigError(
                "store.dsn", str(folder), problem, 'dsn = "sqlite:///other/mqttpush.db"'
            ) from exc
        yield


@contextmanager
def ready_file(settings: Settings, ready: dict[str, object]) -> Iterator[None]:
    """Tells the command line where this server listens, while it does."""
    folder = data_folder(settings)
    if folder is None:
        yield
        return
    path = folder / READY_FILE
    path.write_text(json.dumps(ready), encoding="utf-8")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
