"""The composition root: `create_app` builds the application, and the application's lifespan runs it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from auth.attempts import CHECKS_OF_ACCOUNT, LoginAttempts, LoginQueue
from auth.keys import LISTINGS
from auth.resolver import Resolver
from auth.secrets import Passwords
from hub.dialects.base import Dialect, Dialects, ErrorAnswer
from hub.dialects.endpoint import PrefixDispatch, endpoints_of
from hub.dialects.listings.context import MOST_REGISTRATIONS, MOST_REQUESTS, PREFIX, ListingsContext
from hub.dialects.listings.image_files import ImageFiles
from hub.dialects.listings.routes import ListingsDialect
from hub.dialects.listings.stores import ListingStores
from hub.dialects.platform.context import PlatformContext
from hub.dialects.platform.operations import RESET_PATH
from hub.dialects.platform.routes import PlatformDialect
from hub.engines import make_engine
from hub.fetch import Fetcher
from hub.fetching.fetch_rules import Exemption, FetchRules, parse_ports
from hub.fetching.lookups import HostsFile, ThreadedLookup, resolve_by_system
from hub.http.answer import Answer
from hub.http.bounded_json import JsonLimits
from hub.http.errors import NoSuchPath, NothingAtRoot
from hub.http.middleware import RequestMiddleware
from hub.http.origins import Origins
from hub.http.proxies import RootPath, public_path, set_prefix
from hub.key_file import load_key
from hub.live.gateway import PATH as LIVE_PATH
from hub.live.gateway import LiveEndpoint, LiveGateway, describe_live, refuse
from hub.mail import Mailer, SmtpServer
from hub.media.images import Images
from hub.media.service import make_media
from hub.media.serving import MediaContext, MediaDialect
from hub.media.watermark import read_watermark
from hub.media.workers import ImageWorkers
from hub.metrics import Metrics
from hub.operational import health_routes, metrics_route
from hub.running import Hub
from hub.services.accounts import Accounts
from hub.services.batch import BatchService
from hub.services.credentials import Credentials
from hub.services.delta import DeltaService
from hub.services.entities import EntityService, WriteLimits
from hub.services.expansion import Expansions
from hub.services.keys import KeyIssuer
from hub.services.listings.preparing import prepare as prepare_listings
from hub.services.password_reset import PasswordReset
from hub.services.registration import Registration
from hub.services.registry import StoreRegistry
from hub.services.second_factors import SecondFactors
from hub.services.signins import SignIns
from hub.services.store_lives import StoreLives
from hub.services.system_hooks import system_hooks
from hub.services.throttles import Rule, Throttles
from hub.settings import Settings
from realtime.context import LiveContext, LiveSettings
from realtime.fanout import Fanout
from realtime.session_registry import SessionRegistry
from realtime.unread import UnreadLists
from stores.bounds import Limited
from stores.limits import EntityLimits
from stores.long_lists import LongLists
from stores.parse import FilterLimits
from stores.protocol import Engine


class HubApplication(Starlette):
    """Starlette without its two outer layers, which RequestMiddleware replaces: it answers whatever happens. The router
    gets what the dialects do not."""

    def __init__(self, dialects: Dialects, routes: Sequence[BaseRoute], **kwargs: Any) -> None:
        super().__init__(routes=routes, **kwargs)
        self._endpoints = endpoints_of(dialects)

    def build_middleware_stack(self) -> ASGIApp:
        app: ASGIApp = PrefixDispatch(self.router, self._endpoints)
        for cls, args, kwargs in reversed(self.user_middleware):
            app = cls(app, *args, **kwargs)
        return app


MakeDialect = Callable[[Hub, Origins], Dialect[Any]]


def create_app(settings: Settings | None = None, others: Iterable[MakeDialect] = ()) -> Starlette:
    """Return the hub as an ASGI application; `app.state.hub` holds its components.

    `others` create the dialects that are served beside the platform's. Raises CannotOpen for an unusable setting.
    """
    settings = settings or Settings()
    hub = assemble(settings)
    origins = Origins(settings.trusted_origins, settings.allowed_hosts, (f"{PREFIX}/",))
    platform = make_platform(settings, hub, origins)
    media = make_media_dialect(settings, hub, platform)
    listings = make_listings(settings, hub)
    dialects = Dialects(platform, [media, listings, *(make(hub, origins) for make in others)])

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with hub.run():
            yield
            await gateway.eio.shutdown()

    most = settings.max_requests
    middleware = [Middleware(RootPath, prefix=settings.root_path)] if settings.root_path else []
    packing = settings.compression
    middleware += [
        Middleware(
            RequestMiddleware,
            metrics=hub.metrics,
            most=most,
            apart=LIVE_PATH,
            origins=origins,
            compression=packing,
            error_answer=dialects.error_answer,
        )
    ]
    gateway = LiveGateway(settings, hub.session_registry, hub.resolver, origins.trusted, hub.metrics.limit_reached)
    hub.metrics.watch(gateway)
    hub.metrics.watch_consumers(hub.engine.consumers)
    endpoint = LiveEndpoint(gateway, origins, dialects.error_answer)
    sockets: list[BaseRoute] = [Route(LIVE_PATH, endpoint), WebSocketRoute(LIVE_PATH, endpoint)]
    operational = operational_routes(hub, platform, dialects.error_answer)
    app = HubApplication(dialects, [*sockets, *operational], middleware=middleware, lifespan=lifespan)
    app.router.redirect_slashes = False
    app.router.default = NotFoundEndpoint(dialects.error_answer)
    app.state.hub = hub
    app.state.gateway = gateway
    app.state.error_answer = refusal_renderer(dialects, settings.root_path)
    return app


def make_platform(settings: Settings, hub: Hub, origins: Origins) -> PlatformDialect:
    """Return the platform API over the hub's services."""
    return PlatformDialect(
        PlatformContext(
            settings=settings,
            key=hub.key.key,
            registry=hub.registry,
            resolver=hub.resolver,
            accounts=hub.accounts,
            second_factors=hub.second_factors,
            resets=hub.resets,
            entities=hub.entities,
            batch=hub.batch,
            delta=hub.delta,
            expansions=hub.expansions,
            media=hub.media,
            filter_limits=filter_limits_of(settings),
            json_limits=JsonLimits(
                settings.max_items, settings.max_body_bytes, settings.max_entity_nodes, settings.max_body_nodes
            ),
            origins=origins,
        )
    )


def make_media_dialect(settings: Settings, hub: Hub, platform: PlatformDialect) -> MediaDialect:
    """Return what serves files, with the credentials and the errors of the platform API."""
    media = hub.media
    return MediaDialect(
        MediaContext(
            access=media.access,
            thumbnails=media.thumbnails,
            storage=media.storage,
            keeper=media.keeper,
            authenticate=platform.context.authenticate,
            render=platform.render,
            seconds=settings.stream_timeout,
            body_seconds=settings.body_timeout,
        )
    )


def make_listings(settings: Settings, hub: Hub) -> ListingsDialect:
    """Return the listings API over the hub's services."""
    requests, registrations = Rule(MOST_REQUESTS, 60), Rule(MOST_REGISTRATIONS, 3_600)
    stores = ListingStores(hub.registry)
    context = ListingsContext(
        settings=settings,
        engine=hub.engine,
        registry=hub.registry,
        entities=hub.entities,
        resolver=hub.resolver,
        count_request=lambda key: hub.throttles.take(f"listings:{key}", requests),
        count_registration=lambda block: hub.throttles.take(f"register:{block}", registrations),
        stores=stores,
        images=ImageFiles(hub.media.files, stores),
        registration=hub.registration,
        note_use=hub.accounts.note_use,
    )
    hub.followers += (context.lookups, context.pages)
    return ListingsDialect(context)


def assemble(settings: Settings) -> Hub:
    """Create and connect every component; start nothing."""
    key = load_key(settings)
    engine = make_engine(settings, key.key)
    control_token = secrets.token_urlsafe(32)
    registry = StoreRegistry(engine)
    resolver = Resolver(engine, settings.principals_remembered, control_token)
    passwords = Passwords(settings.password_memory_kib)
    attempts = LoginAttempts(settings.login_attempts, settings.login_window)
    credentials = make_credentials(settings, passwords, attempts)
    factors = SecondFactors(engine, key.key, attempts, credentials)
    metrics = Metrics()
    accounts = make_accounts(settings, engine, resolver, passwords, attempts, factors, metrics)
    mailer = make_mailer(settings)
    issuer = make_issuer(settings, engine, registry)
    hooks = system_hooks(engine, registry, credentials, issuer, settings.max_tokens_per_user, settings.max_matches)
    long_lists = LongLists(settings.max_long_lists_per_user)
    lives = StoreLives(engine, registry)
    entities = EntityService(engine, registry, resolver, hooks, write_limits_of(settings), long_lists)
    fetcher = make_fetcher(settings)
    workers = ImageWorkers(
        settings.image_workers, settings.image_seconds, settings.image_memory_mb, settings.image_queue
    )
    return Hub(
        settings=settings,
        engine=engine,
        registry=registry,
        resolver=resolver,
        passwords=passwords,
        accounts=accounts,
        credentials=credentials,
        second_factors=factors,
        resets=PasswordReset(accounts, credentials, engine, resolver, key.key, mailer, reset_page_of(settings)),
        registration=Registration(
            engine, issuer, entities.group_paths, key.key, mailer, settings.register_code_seconds
        ),
        mailer=mailer,
        fetcher=fetcher,
        image_workers=workers,
        throttles=Throttles(engine.throttles),
        entities=entities,
        batch=BatchService(engine, registry, entities),
        delta=DeltaService(engine, registry, lives),
        expansions=Expansions(engine, registry, long_lists),
        media=make_media(
            engine,
            entities,
            key.key,
            Images(workers, read_watermark(settings.watermark), metrics.image_done),
            fetcher,
            url=settings.media_url.get_secret_value(),
            folder=settings.data_dir,
            most_bytes=settings.media_max_bytes,
            interval=settings.sweep_interval,
        ),
        metrics=metrics,
        key=key,
        control_token=control_token,
        session_registry=make_session_registry(settings, engine, resolver, registry, lives, metrics, long_lists),
    )


def make_accounts(
    settings: Settings,
    engine: Engine,
    resolver: Resolver,
    passwords: Passwords,
    attempts: LoginAttempts,
    factors: SecondFactors,
    metrics: Metrics,
) -> Accounts:
    return Accounts(
        engine,
        resolver,
        passwords,
        attempts,
        LoginQueue(settings.login_queue),
        factors,
        SignIns(engine, settings.login_window),
        settings.session_hours,
        settings.access_token_hours,
        settings.max_sessions_per_user,
        metrics.limit_reached,
    )


def make_issuer(settings: Settings, engine: Engine, registry: StoreRegistry) -> KeyIssuer:
    """Return what makes keys. The first key of a kind prepares the database for its API."""

    async def prepare_kind(kind: str, *, adopts: bool) -> None:
        if kind == LISTINGS:
            await prepare_listings(engine, registry, settings.listings_store_prefix, adopts=adopts)

    return KeyIssuer(engine, settings.max_keys_per_user, prepare_kind)


def make_credentials(settings: Settings, passwords: Passwords, attempts: LoginAttempts) -> Credentials:
    """Give password checks of signed-in users a queue of their own, so that they cannot fill the queue of logins."""
    queue = LoginQueue(max(CHECKS_OF_ACCOUNT, settings.login_queue // 2), CHECKS_OF_ACCOUNT)
    return Credentials(passwords, attempts, queue, settings.password_length, ends_tokens=settings.reset_ends_tokens)


def make_session_registry(
    settings: Settings,
    engine: Engine,
    resolver: Resolver,
    registry: StoreRegistry,
    lives: StoreLives,
    metrics: Metrics,
    long_lists: LongLists,
) -> SessionRegistry:
    sizes = (settings.live_recent_mb * 1_048_576, settings.live_replay_mb * 1_048_576)
    fanout = Fanout(engine, settings.live_recent, *sizes)
    fanout.shares.on_limit = metrics.limit_reached
    live = LiveSettings(
        settings.live_subscriptions,
        settings.live_snapshot,
        settings.live_snapshot_mb * 1_048_576,
        filter_limits_of(settings),
        settings.stream_timeout,
    )

    def describe(error: Exception) -> dict[str, Any]:
        metrics.limit_reached(error.limit_name if isinstance(error, Limited) else "")
        return describe_live(error)

    unread = UnreadLists(long_lists)
    context = LiveContext(engine, resolver, fanout, registry.authorized, describe, live, lives.check, unread=unread)
    return SessionRegistry(context, settings.live_position_every)


def write_limits_of(settings: Settings) -> WriteLimits:
    return WriteLimits(
        settings.max_items,
        settings.max_matches,
        EntityLimits(settings.max_depth, settings.max_name_length, settings.max_entity_nodes),
    )


def filter_limits_of(settings: Settings) -> FilterLimits:
    return FilterLimits(settings.max_filter_depth, settings.max_filter_nodes, settings.max_items)


def make_mailer(settings: Settings) -> Mailer:
    """Return the mailer. Raises CannotOpen for a wrong HUB_SMTP_URL."""
    url = settings.smtp_url.get_secret_value()
    return Mailer(SmtpServer.parse(url) if url else None, settings.data_dir / "outbox", settings.mail_from)


def make_fetcher(settings: Settings) -> Fetcher:
    exemptions = tuple(map(Exemption.parse, settings.fetch_allow))
    resolve = HostsFile(Path(settings.fetch_hosts)) if settings.fetch_hosts else resolve_by_system
    return Fetcher(FetchRules(exemptions, parse_ports(settings.fetch_ports)), ThreadedLookup(resolve))


def reset_page_of(settings: Settings) -> str:
    """Return the address of the page that takes a reset token; empty if it is unknown.

    It never depends on the request, which could direct a user's token to another server.
    """
    base = settings.public_url or (f"http://{settings.host}:{settings.port}" if settings.port else "")
    return f"{base.rstrip('/')}{RESET_PATH}" if base else ""


def operational_routes(hub: Hub, platform: PlatformDialect, error_answer: ErrorAnswer) -> list[BaseRoute]:
    """Return the health routes, and the metrics route with its access check (see `HUB_METRICS`)."""
    routes = health_routes(hub.engine.ping, lambda: hub.ready, error_answer)
    if hub.settings.metrics != "off":
        authenticate = None if hub.settings.metrics == "public" else platform.context.authenticate
        routes.append(metrics_route(hub.metrics, authenticate, error_answer))
    return routes


def refusal_renderer(dialects: Dialects, root_path: str) -> ErrorAnswer:
    """Return the renderer of errors that the server answers before the application runs: the path still has its
    prefix."""

    def render(error: Exception, scope: Scope) -> Answer:
        if root_path:
            set_prefix(scope, root_path)
        return dialects.error_answer(error, scope)

    return render


class NotFoundEndpoint:
    """Answers requests to paths that match no route."""

    def __init__(self, error_answer: ErrorAnswer) -> None:
        self._error_answer = error_answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._error_answer(self._error(scope), scope)
        if scope["type"] == "http":
            await answer.send(scope, send)
        elif scope["type"] == "websocket":
            await refuse(answer, scope, send)

    def _error(self, scope: Scope) -> NoSuchPath:
        if scope["path"] == "/":  # people open the address that the hub prints at its start
            return NothingAtRoot(public_path(scope).removesuffix("/"))
        return NoSuchPath(scope["path"])
