"""Rate limits on failed logins: per name and address, per account, per credential, and per address, in a moving window.

The counts are kept in this process, in tables of a fixed size. A refused attempt is not recorded, so an attack costs
neither memory nor cleanup time.
"""

from __future__ import annotations

import math
import time
from array import array
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Annotated

from auth.addresses import address_block
from auth.errors import TooManyAttempts
from stores.bounds import Limit

ADDRESS_FACTOR = 10
"""An address may have this many times the failures of one name from it, since many people can share an address."""

LOGIN_COUNTS: Annotated[int, Limit("process", "names and addresses", "the oldest goes")] = 20_000
"""Maximum number of names whose failed attempts are counted at a time. It also applies to addresses, to accounts and to
credentials."""


CHECKS_OF_ACCOUNT = 2
"""Maximum concurrent checks of the current password of one account."""


class MovingWindow:
    """Counter of events by key, with at most `most` events of a key in `seconds`."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float], keys: int = LOGIN_COUNTS) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._keys = keys
        self._events: OrderedDict[bytes, array[float]] = OrderedDict()  # by last event, oldest first

    def wait(self, key: bytes) -> float:
        """Return the seconds until the limit allows another event of the key; 0 if it does now."""
        events = self._events.get(key)
        if events is None:
            return 0
        now = self._clock()
        del events[: bisect_right(events, now - self._seconds)]
        if not events:
            del self._events[key]
        return 0 if len(events) < self._most else events[0] + self._seconds - now

    def add(self, key: bytes) -> None:
        """Count one event of the key at the current time."""
        self._events.setdefault(key, array("d")).append(self._clock())
        self._events.move_to_end(key)
        while len(self._events) > self._keys or self._outdated():
            self._events.popitem(last=False)

    def take_back(self, key: bytes) -> None:
        """Forget the latest event of the key."""
        events = self._events.get(key)
        if events:
            events.pop()

    def clear(self, key: bytes) -> None:
        self._events.pop(key, None)

    def clear_all(self, prefix: bytes = b"") -> None:
        """Forget the events of all keys that begin with `prefix`."""
        for key in [key for key in self._events if key.startswith(prefix)]:
            del self._events[key]

    def __len__(self) -> int:
        return len(self._events)

    def _outdated(self) -> bool:
        oldest = next(iter(self._events.values()), None)
        return oldest is not None and (not oldest or oldest[-1] <= self._clock() - self._seconds)


class LoginAttempts:
    """Limits of `attempts` per `window` seconds for one name from one address, for one account, and for one of its
    credentials."""

    def __init__(self, attempts: int, window: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.names = MovingWindow(attempts, window, clock)
        self.addresses = MovingWindow(attempts * ADDRESS_FACTOR, window, clock)
        self.accounts = MovingWindow(attempts, window, clock)
        """Separate from names: anybody can invent names, and these must not push out the counts of accounts."""
        self.credentials = MovingWindow(attempts, window, clock)
        """Separate from accounts: a user can make many sessions, and these must not push out the counts of accounts."""
        self._eras: OrderedDict[str, str] = OrderedDict()  # by name; counts of an earlier era are ignored

    def take(self, login: str, address: str) -> None:
        """Count an attempt before the password is checked, so that concurrent guesses count too.

        Raises TooManyAttempts.
        """
        block, name = self._keys(login, address)
        _check(self.addresses, block)
        _check(self.names, name)
        self.addresses.add(block)
        self.names.add(name)

    def check_address(self, address: str) -> None:
        """Raise TooManyAttempts if no login from the address may be tried now."""
        _check(self.addresses, _encoded(address_block(address)))

    def take_of(self, account: str, credential: str | None = None) -> None:
        """Count an attempt on an account, from any address. Raises TooManyAttempts.

        Attempts with a credential (its id) count for that credential alone, so that the thief of a session cannot keep
        the user out.
        """
        window, key = self._count_of(account, credential)
        _check(window, key)
        window.add(key)

    def succeeded_of(self, account: str, credential: str | None = None) -> None:
        window, key = self._count_of(account, credential)
        window.clear(key)

    def _count_of(self, account: str, credential: str | None) -> tuple[MovingWindow, bytes]:
        if credential is None:
            return self.accounts, account.encode()
        return self.credentials, f"{account}:{credential}".encode()

    def succeeded(self, login: str, address: str) -> None:
        """Clear the count of the name, and remove this attempt from the count of the address."""
        block, name = self._keys(login, address)
        self.names.clear(name)
        self.addresses.take_back(block)

    def take_back(self, login: str, address: str) -> None:
        """Remove this attempt from the counts of the name and of the address."""
        self.names.take_back(self._keys(login, address)[1])
        self.take_back_address(address)

    def take_back_address(self, address: str) -> None:
        """Remove this attempt from the count of the address only."""
        self.addresses.take_back(_encoded(address_block(address)))

    def forgive(self, login: str, account: str, era: str) -> None:
        """Clear the counts of a name (from every address), of its account and of the account's credentials, once for
        each `era`.

        An era identifies the current password of the account. The counts of addresses stay.
        """
        if self._eras.get(login) == era:
            return
        self._eras[login] = era
        if len(self._eras) > LOGIN_COUNTS:
            self._eras.popitem(last=False)
        self.succeeded_of(account)
        self.credentials.clear_all(f"{account}:".encode())

    def forgive_all(self, prefix: str) -> None:
        """Clear the counts of all names, and of the accounts that begin with `prefix` with their credentials. The
        counts of addresses stay."""
        self.names.clear_all()
        self.accounts.clear_all(prefix.encode())
        self.credentials.clear_all(prefix.encode())

    def _keys(self, login: str, address: str) -> tuple[bytes, bytes]:
        """Return the keys of the address and of the name from it. The key of a name has a fixed size."""
        block = address_block(address)
        text = f"{block}\0{self._eras.get(login, '')}\0{login}"
        return _encoded(block), blake2b(_encoded(text), digest_size=16).digest()


def _check(window: MovingWindow, key: bytes) -> None:
    seconds = window.wait(key)
    if seconds > 0:
        raise TooManyAttempts(math.ceil(seconds)).at("login_attempts")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class LoginQueue:
    """Slots for logins whose password is being checked or waits for the check.

    There are at most `most` slots, and at most `each` for one address (half of them by default), so that no address
    can block the others.
    """

    def __init__(self, most: int, each: int | None = None) -> None:
        self._most = most
        self._per_address = max(1, most // 2) if each is None else each
        self._occupied: Counter[str] = Counter()

    @contextmanager
    def slot(self, address: str) -> Iterator[None]:
        """Occupy a slot during a block. Raises TooManyAttempts if there is none."""
        block = address_block(address)
        if self._occupied.total() >= self._most or self._occupied[block] >= self._per_address:
            raise TooManyAttempts(1).at("login_queue")
        self._occupied[block] += 1
        try:
            yield
        finally:
            self._occupied[block] -= 1
            if not self._occupied[block]:
                del self._occupied[block]
