"""Credentials: tokens, passwords, identifiers and CONNECT credentials: make, hash, check.

Knows no route and no socket. Two ideas. Random secrets carry 128 bits or more, so a plain SHA-256
of them is safe to keep and costs a microsecond to check; passwords of people are argon2id, hashed
in threads, few at a time. And an MQTT password is derived from the server's key, so it can be told
again (spec kii 3.1) though the store never holds it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import random
import string
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from mqttpush.config import SecuritySettings
from mqttpush.errors import LimitReached, NotAuthenticated, NotFound, PrincipalDisabled
from mqttpush.kinvey import PasswordProof
from mqttpush.models import Credentials, Owner, Principal, PrincipalKind
from mqttpush.peers import Networks, RateLimiter, Tally, address_key
from mqttpush.store import ConnectRow, Result, Transaction

_BASE36: Final = string.digits + string.ascii_lowercase
_ALPHANUMERIC: Final = string.ascii_letters + string.digits
# Buffer of the embedded C clients (spec kii 3.1).
USERNAME_LIMIT_BYTES: Final = 63
# What is longer is no app's ID, and not kept where a stranger writes it.
APP_ID_LIMIT: Final = 64
MQTT_TOPIC_LENGTH: Final = 23  # the longest client ID MQTT 3.1 allows; 137 bits

# Beside hundreds of clients that only log in, on two cores, others get more done (1.1 to 4 times
# as much, measured on a busy machine), and those that log in no less.
NICE_OF_HASHES: Final = 10
# The master secret of an app's code at a depth; see SecretMaker.
ServiceSecret = Callable[[str, int], str]


def secret_hash(secret: str | bytes) -> bytes:
    """SHA-256 of a random secret, as the store keeps it."""
    return hashlib.sha256(secret.encode() if isinstance(secret, str) else secret).digest()


class SecretMaker:
    """Makes identifiers and random secrets, and derives MQTT passwords.

    source: a cryptographic generator (`random.SystemRandom`). server_key: 32 bytes that stay the
    same over restarts.
    """

    def __init__(self, *, source: random.Random, server_key: bytes) -> None:
        self._choices = source.choices
        self._server_key = server_key

    def app_id(self) -> str:
        return self._text(_BASE36, 20)

    def app_key(self) -> str:
        return self._text(_BASE36, 32)

    def client_id(self) -> str:
        return self._text(_BASE36, 32)

    def client_secret(self) -> str:
        return self._text(_ALPHANUMERIC, 64)

    def user_id(self) -> str:
        """`12-4-4-4-8` lower-case base-36 characters (spec kii 1.1)."""
        return "-".join(self._text(_BASE36, length) for length in (12, 4, 4, 4, 8))

    def thing_id(self) -> str:
        return f"th.{self.user_id()}"

    def group_id(self) -> str:
        return self._text(_BASE36, 25)

    def installation_id(self) -> str:
        return self._text(_BASE36, 25)

    def access_token(self) -> str:
        return self._text(_ALPHANUMERIC + "-_", 43)

    def mqtt_topic(self) -> str:
        return self._text(_ALPHANUMERIC, MQTT_TOPIC_LENGTH)

    def document_id(self) -> str:
        """24 lower-case hexadecimal digits (spec kinvey 7.1)."""
        return os.urandom(12).hex()

    def service_secret(self, app_id: str, depth: int) -> str:
        """A master secret that can be told again, for hooks and services; the store has none.

        depth: how many runs of server code led to who shows it, 1 to 9: its last digit, which
        nobody can change, for each has a secret of its own.
        """
        assert 1 <= depth <= 9
        secret = self._derived(f"service-secret\0{app_id}\0{depth}")
        return f"{secret}{depth}"

    def link_proof(self, purpose: str, owner: Owner, state: str, expires_s: int) -> str:
        """What a link in a mail shows, 64 letters: good for one purpose, user and end in time.

        state: of the user; another one makes another proof, so what a link does ends it.
        """
        return self._derived(f"link\0{purpose}\0{owner.app_id}\0{owner.id}\0{expires_s}\0{state}")

    def blob(self) -> str:
        """The name of a file: lower case, because some file systems know no other."""
        return self._text(_BASE36, 25)

    def mqtt_username(self, app_id: str) -> str:
        """`{appID}-{suffix}`, of a length that C clients can hold (spec kii 3.1).

        A long app ID shortens the suffix, a very long one is left out: the name must be unique,
        it need not be secret.
        """
        suffix_length = min(23, USERNAME_LIMIT_BYTES - len(app_id) - 1)
        if suffix_length < 12:  # 71 bits
            return self._text(_ALPHANUMERIC, 23)
        return f"{app_id}-{self._text(_ALPHANUMERIC, suffix_length)}"

    def mqtt_password(self, installation_id: str, mqtt_topic: str) -> str:
        """64 letters, always the same for one endpoint of one server key."""
        return self._derived(f"mqtt-password\0{installation_id}\0{mqtt_topic}")

    def anonymous_token(self, app_id: str) -> str:
        """43 letters, always the same for one app of one server key."""
        return self._derived(f"anonymous-token\0{app_id}")[:43]

    def _derived(self, seed: str) -> str:
        digest = hmac.digest(self._server_key, seed.encode(), hashlib.sha512)
        return "".join(string.ascii_letters[byte % 52] for byte in digest)

    @staticmethod
    def uuid() -> str:
        """A random UUID, RFC 9562 version 4; on every write's path, so without `uuid.UUID`."""
        text = os.urandom(16).hex()
        variant = "89ab"[int(text[16], 16) & 3]
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"

    def _text(self, alphabet: str, length: int) -> str:
        return "".join(self._choices(alphabet, k=length))


class Passwords:
    """argon2id in a few threads; the event loop and the store never wait for a hash.

    unlimited: addresses that may have any share of the queue. address, in all that follows: for
    whom a hash is computed, empty for nobody in particular.
    """

    def __init__(self, settings: SecuritySettings, *, unlimited: Sequence[str] = ()) -> None:
        self._hasher = PasswordHasher(
            time_cost=settings.argon2_time_cost,
            memory_cost=settings.argon2_memory_kib,
            parallelism=1,
        )
        # A fleet onboards at once; a device's password is provisioned, and guesses are counted.
        self._thing_hasher = PasswordHasher(
            time_cost=settings.thing_argon2_time_cost,
            memory_cost=settings.thing_argon2_memory_kib,
            parallelism=1,
        )
        self._threads = ThreadPoolExecutor(
            settings.max_concurrent_hashes, "password", initializer=_step_back
        )
        self._settings = settings
        self.unlimit(unlimited)
        self._waiting_by_address = Tally()
        self.waiting_count = 0  # with those being computed
        # Checked when there is no such user, so that the answer takes as long (HOSTILE 6).
        self._decoy = self._hasher.hash("decoy")
        self._thing_decoy = self._thing_hasher.hash("decoy")

    async def hash(self, password: str, address: str = "") -> str:
        return await self._run(lambda: self._hasher.hash(password), address)

    async def hash_of_thing(self, password: str, address: str = "") -> str:
        return await self._run(lambda: self._thing_hasher.hash(password), address)

    async def verify(
        self,
        password_hash: str | None,
        password: str,
        address: str = "",
        *,
        is_thing: bool = False,
    ) -> bool:
        """Does `password` fit? Takes the same time for `password_hash` None (always False).

        is_thing: whose time that would be.
        """
        decoy = self._thing_decoy if is_thing else self._decoy

        def check() -> bool:
            try:
                return self._hasher.verify(password_hash or decoy, password)
            except (VerificationError, InvalidHashError):
                return False

        return await self._run(check, address) and password_hash is not None

    def unlimit(self, addresses: Sequence[str]) -> None:
        """Other addresses may have any share from now on."""
        self._unlimited = Networks(addresses)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], Result], address: str) -> Result:
        if self.waiting_count >= self._settings.max_queued_hashes:
            raise LimitReached("security.max_queued_hashes", retry_after_s=1)
        key = address_key(address)
        is_full = self._waiting_by_address[key] >= self._settings.max_queued_hashes_per_address
        if is_full and address and not self._unlimited.contains(address):
            raise LimitReached("security.max_queued_hashes_per_address", retry_after_s=1)
        self.waiting_count += 1
        self._waiting_by_address.add(key)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self.waiting_count -= 1
            self._waiting_by_address.remove(key)


def _step_back() -> None:
    """Leave the processor to the event loop whenever it wants it (Linux: nice is a thread's)."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE_OF_HASHES)


class FailureCounter:
    """Wrong credentials by the name somebody tries and by his address; both bounded, and rates.

    A name is what was typed, not whom it leads to: names that nobody has are counted alike, so no
    answer tells which there are. `unlimited`: addresses that many share, such as a proxy's, which
    have no bound of their own. clock: seconds, monotonic.
    """

    WINDOW_S: Final = 300.0

    def __init__(
        self,
        settings: SecuritySettings,
        *,
        clock: Callable[[], float],
        unlimited: Sequence[str] = (),
    ) -> None:
        self._clock = clock
        self.apply(settings, unlimited)

    def apply(self, settings: SecuritySettings, unlimited: Sequence[str]) -> None:
        """Take new limits; all is forgiven."""
        self._unlimited = Networks(unlimited)
        self._by_name = _in_window(settings.max_failed_passwords, self.WINDOW_S)
        self._by_address = _in_window(settings.max_failed_passwords_per_address, self.WINDOW_S)

    def tries(self, app_id: str, name: str, address: str) -> Tries:
        """For one check of credentials. name: empty for a secret that the whole app shares."""
        key = address_key(address)
        # A stranger's text of any length: only a digest is kept.
        of_name = secret_hash(f"{app_id}\0{key}\0{name}") if name else None
        is_counted = bool(address) and not self._unlimited.contains(address)
        of_address = (app_id, key) if is_counted and len(app_id) <= APP_ID_LIMIT else None
        return Tries(self._by_name, of_name, self._by_address, of_address, self._clock)


@dataclass(frozen=True, slots=True)
class Tries:
    """One name, or an app's secret, tried from one address."""

    _by_name: RateLimiter
    _of_name: bytes | None
    _by_address: RateLimiter
    _of_address: tuple[str, str] | None
    _clock: Callable[[], float]

    def check(self) -> None:
        """Raises LimitReached when there have been too many wrong ones.

        To be asked before a password is checked, and again after it: guesses sent all at once are
        under way together, and no more of them are answered than of those sent in turn.
        """
        now = self._clock()
        if self._of_name is not None:
            wait_s = self._by_name.wait_s(self._of_name, now)
            if wait_s > 0:
                raise LimitReached("security.max_failed_passwords", retry_after_s=wait_s)
        if self._of_address is not None:
            wait_s = self._by_address.wait_s(self._of_address, now)
            if wait_s > 0:
                limit = "security.max_failed_passwords_per_address"
                raise LimitReached(limit, retry_after_s=wait_s)

    def wrong(self) -> None:
        """Count one more."""
        now = self._clock()
        if self._of_name is not None:
            self._by_name.charge(self._of_name, now)
        if self._of_address is not None:
            self._by_address.charge(self._of_address, now)

    def right(self) -> None:
        """The name's count starts anew; the address's does not: an account of one's own would
        clear it for guesses at others."""
        if self._of_name is not None:
            self._by_name.forgive(self._of_name)


def _in_window(count: int, window_s: float) -> RateLimiter:
    return RateLimiter(per_s=count / window_s, burst=count)


def authenticate(
    tx: Transaction,
    credentials: Credentials,
    now_ms: int,
    service_secret: ServiceSecret,
) -> Principal:
    """Who is it? Raises NotAuthenticated, PrincipalDisabled, NotFound for an unknown app.

    Without a token: the anonymous principal, the app key checked only where the app is strict
    (spec kii 0.3). A token of another app is as good as none.
    """
    if credentials.token is None:
        if credentials.app_secret is not None:
            return _holder_of_secret(tx, credentials, credentials.app_secret, service_secret)
        if credentials.proof is not None:
            return _proved(tx, credentials.app_id, credentials.proof)
        return _anonymous(tx, credentials)
    holder = tx.tokens.holder(secret_hash(credentials.token), now_ms)
    if holder is None or (credentials.app_id and holder.principal.app_id != credentials.app_id):
        raise NotAuthenticated
    if holder.is_app_disabled:
        raise PrincipalDisabled("app", holder.principal.app_id)
    if holder.is_principal_disabled:
        raise PrincipalDisabled(holder.principal.kind.value, holder.principal.id)
    return holder.principal


def _anonymous(tx: Transaction, credentials: Credentials) -> Principal:
    if not credentials.app_id:
        raise NotAuthenticated("the request names no app")
    app = tx.apps.get(credentials.app_id)
    if app is None:
        raise NotFound("app", credentials.app_id)
    if app.is_disabled:
        raise PrincipalDisabled("app", app.app_id)
    is_key_due = app.is_app_key_checked and not credentials.is_app_known
    if is_key_due and not hmac.compare_digest(
        (credentials.app_key or "").encode(), app.app_key.encode()
    ):
        raise NotAuthenticated("the app key is not valid")
    return Principal(app.app_id, PrincipalKind.ANONYMOUS)


def _holder_of_secret(
    tx: Transaction, credentials: Credentials, secret: str, service_secret: ServiceSecret
) -> Principal:
    """The administrator by a master secret, anonymous by the app key (spec kinvey 2)."""
    app = tx.apps.get(credentials.app_id)
    if app is None:
        raise NotAuthenticated("the app or its secret is not valid")
    is_master = hmac.compare_digest(secret_hash(secret), app.client_secret_hash)
    digit = secret[-1:]
    depth = int(digit) if digit and digit in "123456789" else 1
    own_secret = service_secret(app.app_id, depth)
    is_service = hmac.compare_digest(secret.encode(), own_secret.encode())
    is_app = hmac.compare_digest(secret.encode(), app.app_key.encode())
    if not (is_master or is_service or is_app):
        raise NotAuthenticated("the app or its secret is not valid")
    if app.is_disabled:
        raise PrincipalDisabled("app", app.app_id)
    if not (is_master or is_service):
        return Principal(app.app_id, PrincipalKind.ANONYMOUS)
    return Principal(app.app_id, PrincipalKind.ADMIN, depth=depth if is_service else 0)


def _proved(tx: Transaction, app_id: str, proof: PasswordProof) -> Principal:
    app, user = tx.apps.get(app_id), tx.users.get(app_id, proof.user_id)
    if app is None or user is None or user.password_hash != proof.password_hash:
        raise NotAuthenticated("the user name or password is not valid")
    if app.is_disabled:
        raise PrincipalDisabled("app", app_id)
    if user.is_disabled:
        raise PrincipalDisabled("user", user.user_id)
    return Principal(app_id, PrincipalKind.USER, user.user_id)


def may_connect(row: ConnectRow, password: bytes, now_ms: int) -> bool:
    """Do the CONNECT credentials hold: right password, not expired, owner enabled?"""
    is_password_right = hmac.compare_digest(secret_hash(password), row.endpoint.password_hash)
    return is_password_right and row.is_enabled and row.endpoint.expires_ms > now_ms
