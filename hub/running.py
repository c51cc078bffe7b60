"""The running hub: its components, their start and end, and the background jobs between."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from auth.resolver import Resolver
from auth.secrets import Passwords
from hub.fetch import Fetcher
from hub.key_file import KeyInUse, check_key
from hub.mail import Mailer
from hub.media.service import Media
from hub.media.workers import ImageWorkers
from hub.memory import give_back_memory
from hub.metrics import Metrics
from hub.services.accounts import Accounts
from hub.services.batch import BatchService
from hub.services.bootstrap import ensure_admin, fill_login_keys
from hub.services.credentials import Credentials
from hub.services.delta import DeltaService
from hub.services.entities import EntityService
from hub.services.expansion import Expansions
from hub.services.listings.preparing import keep_prepared
from hub.services.listings.tombstones import sweep_tombstones
from hub.services.password_reset import PasswordReset
from hub.services.registration import Registration
from hub.services.registry import StoreRegistry
from hub.services.second_factors import SecondFactors
from hub.services.throttles import Throttles
from hub.services.user_numbers import number_users
from hub.settings import Settings
from realtime.session_registry import SessionRegistry
from stores.errors import HistoryGone, StoreError
from stores.protocol import Engine
from stores.records import Change, now_ms
from stores.starting import when_available
from stores.tasks import end_tasks

log = logging.getLogger(__name__)


class FeedFollower(Protocol):
    """A cache that follows the change feed."""

    def follow(self, changes: Sequence[Change]) -> None:
        """Apply the next changes of the feed."""

    def start_afresh(self) -> None:
        """Drop everything: changes were missed."""


@dataclass(slots=True)
class Hub:
    """The components of one running hub.

    `control_token` is a Bearer token of this process, for the command line on the same machine. `first_password` is the
    generated password of the first administrator, until it has been shown; otherwise None. The start creates an
    administrator only if `makes_administrator` is set.
    """

    settings: Settings
    engine: Engine
    registry: StoreRegistry
    resolver: Resolver
    passwords: Passwords
    accounts: Accounts
    credentials: Credentials
    second_factors: SecondFactors
    resets: PasswordReset
    registration: Registration
    mailer: Mailer
    fetcher: Fetcher
    image_workers: ImageWorkers
    throttles: Throttles
    entities: EntityService
    batch: BatchService
    delta: DeltaService
    expansions: Expansions
    media: Media
    metrics: Metrics
    session_registry: SessionRegistry
    key: KeyInUse
    control_token: str
    followers: list[FeedFollower] = field(default_factory=list)
    """The caches of dialects."""
    makes_administrator: bool = True
    first_password: str | None = None
    ready: bool = False
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Open the database, start the background jobs and stop them at the end. Raises CannotOpen."""
        async with AsyncExitStack() as stack:
            stack.callback(self.passwords.close)
            self.metrics.loop_watch.start()
            stack.callback(self.metrics.loop_watch.stop)
            await self.engine.open()
            stack.push_async_callback(self.engine.close)
            await when_available(partial(check_key, self.engine, self.key))
            await when_available(self.registry.open)
            await when_available(self.registration.open)
            await when_available(self.media.records.define)
            stack.push_async_callback(self.image_workers.close)
            stack.push_async_callback(self.media.thumbnails.close)
            await when_available(partial(keep_prepared, self.engine, self.registry))
            self._note_watermark()
            await when_available(self.entities.group_paths.start)
            stack.push_async_callback(self.entities.group_paths.stop)
            await when_available(partial(number_users, self.engine))  # before a new administrator gets a number
            admin = self.settings.admin_password.get_secret_value()
            if self.makes_administrator:
                login, least = self.settings.admin_login, self.settings.password_length
                self.first_password = await ensure_admin(self.engine, self.passwords, login, admin, least)
            await when_available(partial(fill_login_keys, self.engine))
            position = await when_available(self.engine.feed.position)
            self.session_registry.context.fanout.start(position)
            jobs = (
                self._follow(position),
                self._sweep(),
                self.session_registry.run(),
                self.mailer.run(),
                self.resets.run(),
                self.registration.run(),
                self.media.keeper.follow(),
                self.media.keeper.remove(),
            )
            for job in (*jobs, give_back_memory()):
                task = asyncio.create_task(job)
                task.add_done_callback(_log_failure)
                self._tasks.add(task)
            stack.push_async_callback(end_tasks, self._tasks)
            self.ready = True
            try:
                yield
            finally:
                self.ready = False

    def _note_watermark(self) -> None:
        """Log that images get no mark, if there are some that should have one."""
        fields = (field for each in self.registry.all() for field in each.file_fields.values())
        if not self.settings.watermark and any(field.watermark for field in fields):
            log.info("HUB_WATERMARK is not set: images get no mark")

    async def _follow(self, position: str) -> None:
        """Apply the changes in the feed to caches and subscriptions, including those made by other processes.

        After any failure the feed continues. If it cannot continue without a gap, every subscription is resynchronised.
        """
        lost = False
        while True:
            try:
                if lost:
                    position, lost = await self._begin_afresh(), False
                async for batch in self.engine.feed.follow(position):
                    self.resolver.forget(batch.changes)
                    self.credentials.follow(batch.changes)
                    self.entities.group_paths.follow(batch.changes)
                    await self.registry.follow(batch.changes)
                    for follower in self.followers:
                        follower.follow(batch.changes)
                    await self.session_registry.context.fanout.advance(batch.changes, batch.position)
                    self.metrics.seen(batch.changes)
                    position = batch.position
            except HistoryGone:
                log.warning("changes were missed while the feed was away: reading everything anew")
                lost = True
            except StoreError as error:
                log.warning("the change feed is interrupted: %s", error)
                # Nothing tells of revoked credentials and changed rights now: none is remembered for longer than this.
                self._forget()
                await asyncio.sleep(1)
            except Exception:
                # A change that cannot be delivered must not silently end the feed, and with it every subscription.
                log.exception("a change could not be handed out: reading everything anew")
                lost = True
                await asyncio.sleep(1)

    async def _begin_afresh(self) -> str:
        """Drop the caches that follow the feed, resynchronise every subscriber, and return the position to continue
        from."""
        position = await self.engine.feed.position()
        self.credentials.start_afresh()
        self.entities.group_paths.start_afresh()
        await self.registry.refresh()
        self._forget()
        self.session_registry.context.fanout.start(position)
        await self.session_registry.start_afresh()
        return position

    def _forget(self) -> None:
        """Drop what is remembered of principals and keys, and the caches of dialects."""
        self.resolver.forget_all()
        for follower in self.followers:
            follower.start_afresh()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self.settings.sweep_interval)
            tombstones = partial(sweep_tombstones, self.engine, self.registry, self.settings.tombstone_days)
            for sweep in (self.engine.sweep, self.accounts.sweep, self.registration.sweep, tombstones):
                # Each for itself: while one fails every time, the others still do their work.
                try:
                    await sweep(now_ms())
                except StoreError as error:
                    log.warning("housekeeping failed: %s", error)
                except Exception:
                    log.exception("housekeeping failed")


def _log_failure(job: asyncio.Task[None]) -> None:
    """Log the failure of a background job: the hub runs on without it, and nothing else would report it."""
    if not job.cancelled() and job.exception() is not None:
        log.error("a background job of the hub has failed and is not running any more", exc_info=job.exception())
