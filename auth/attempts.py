"""A limit on guessing passwords: so many failed logins per name and address, and per address, in a moving window.

The counts are kept in this process, in tables of a fixed size. A refused attempt leaves nothing behind, so that an
attack costs neither memory nor the time to clear it away.
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
"""An address may fail this many times as often as one name from it: many people can share an address."""

LOGIN_COUNTS: Annotated[int, Limit("process", "names and addresses", "the oldest goes")] = 20_000
"""Names, and as many addresses and accounts, whose failed attempts are counted at a time."""


CHECKS_OF_ACCOUNT = 2
"""Checks of its current password that one account may have going on."""


class MovingWindow:
    """Counts events by key: at most `most` of one key in `seconds`."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float], keys: int = LOGIN_COUNTS) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._keys = keys
        self._events: OrderedDict[bytes, array[float]] = OrderedDict()  # the key with the oldest last event first

    def wait(self, key: bytes) -> float:
        """Seconds until another event of the key is within the limit; 0 if it is now."""
        events = self._events.get(key)
        if events is None:
            return 0
        now = self._clock()
        del events[: bisect_right(events, now - self._seconds)]
        if not events:
            del self._events[key]
        return 0 if len(events) < self._most else events[0] + self._seconds - now

    def add(self, key: bytes) -> None:
        """Count an event now."""
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

    def __len__(self) -> int:
        return len(self._events)

    def _outdated(self) -> bool:
        oldest = next(iter(self._events.values()), None)
        return oldest is not None and (not oldest or oldest[-1] <= self._clock() - self._seconds)


class LoginAttempts:
    """`attempts` per `window` seconds for one name from one address."""

    def __init__(self, attempts: int, window: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.names = MovingWindow(attempts, window, clock)
        self.addresses = MovingWindow(attempts * ADDRESS_FACTOR, window, clock)
        self.accounts = MovingWindow(attempts, window, clock)
        """Apart from names, which anybody can make up: they must not push out what is counted for an account."""
        self._eras: OrderedDict[str, str] = OrderedDict()  # by name; what was counted in another era is forgotten

    def take(self, login: str, address: str) -> None:
        """Count an attempt before it is judged, so that guesses made at once count too. Raises TooManyAttempts."""
        block, name = self._keys(login, address)
        for window, key in ((self.addresses, block), (self.names, name)):
            seconds = window.wait(key)
            if seconds > 0:
                raise TooManyAttempts(math.ceil(seconds)).at("login_attempts")
        self.addresses.add(block)
        self.names.add(name)

    def take_of(self, account: str) -> None:
        """The same for one account, wherever the attempt comes from. Raises TooManyAttempts."""
        seconds = self.accounts.wait(account.encode())
        if seconds > 0:
            raise TooManyAttempts(math.ceil(seconds)).at("login_attempts")
        self.accounts.add(account.encode())

    def succeeded_of(self, account: str) -> None:
        self.accounts.clear(account.encode())

    def succeeded(self, login: str, address: str) -> None:
        """A right password clears what was counted for the name, and does not count for the address."""
        block, name = self._keys(login, address)
        self.names.clear(name)
        self.addresses.take_back(block)

    def forgive(self, login: str, account: str, era: str) -> None:
        """Clear what was counted for the name of an account, from every address, and for the account itself, once for
        each `era`, such as that of another password. What was counted for addresses stays."""
        if self._eras.get(login) == era:
            return
        self._eras[login] = era
        if len(self._eras) > LOGIN_COUNTS:
            self._eras.popitem(last=False)
        self.succeeded_of(account)

    def _keys(self, login: str, address: str) -> tuple[bytes, bytes]:
        """Of the address and of the name from it: of one size, however long the name is."""
        block = address_block(address)
        text = f"{block}\0{self._eras.get(login, '')}\0{login}"
        name = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16)
        return block.encode("utf-8", "surrogatepass"), name.digest()


class LoginQueue:
    """Places of logins whose password is being checked or waits for that: at most `most`, and `each` of them for one
    address (half, unless given), so that nobody keeps the others out."""

    def __init__(self, most: int, each: int | None = None) -> None:
        self._most = most
        self._per_address = max(1, most // 2) if each is None else each
        self._held: Counter[str] = Counter()

    @contextmanager
    def place(self, address: str) -> Iterator[None]:
        """Hold a place for the length of a block. Raises TooManyAttempts when there is none."""
        block = address_block(address)
        if self._held.total() >= self._most or self._held[block] >= self._per_address:
            raise TooManyAttempts(1).at("login_queue")
        self._held[block] += 1
        try:
            yield
        finally:
            self._held[block] -= 1
            if not self._held[block]:
                del self._held[block]
