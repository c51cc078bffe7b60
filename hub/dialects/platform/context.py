"""The services that handlers of the platform API call."""

from __future__ import annotations

from dataclasses import dataclass, field

from auth.errors import MissingScheme, Unauthenticated
from auth.principal import Principal
from auth.resolver import Resolver
from auth.secret_key import SecretKey
from hub.dialects.base import read_body
from hub.dialects.browser import check_browser
from hub.dialects.platform.known_requests import KnownRequests
from hub.http.body import BodyLimit
from hub.http.bounded_json import JsonLimits
from hub.http.call import Call
from hub.http.origins import Origins
from hub.media.service import Media
from hub.openapi.kept import KeptDocuments
from hub.services.accounts import Accounts
from hub.services.batch import BatchService
from hub.services.delta import DeltaService
from hub.services.entities import EntityService
from hub.services.expansion import Expansions
from hub.services.password_reset import PasswordReset
from hub.services.registry import StoreRegistry
from hub.services.second_factors import SecondFactors
from hub.settings import Settings
from stores.parse import FilterLimits


@dataclass(slots=True)
class PlatformContext:
    """The services that the platform's operations call, and the limits of request bodies."""

    settings: Settings
    key: SecretKey
    registry: StoreRegistry
    resolver: Resolver
    accounts: Accounts
    second_factors: SecondFactors
    resets: PasswordReset
    entities: EntityService
    batch: BatchService
    delta: DeltaService
    expansions: Expansions
    media: Media
    filter_limits: FilterLimits
    json_limits: JsonLimits
    origins: Origins
    public_document: tuple[str, bytes] = ("", b"")
    """The OpenAPI document for callers without credentials, as (path prefix, text)."""
    documents: KeptDocuments = field(default_factory=KeptDocuments)
    """The OpenAPI documents for callers with credentials."""
    known_requests: KnownRequests = field(init=False)
    auth_limit: BodyLimit = field(init=False)
    body_limit: BodyLimit = field(init=False)
    bulk_limit: BodyLimit = field(init=False)
    batch_limit: BodyLimit = field(init=False)

    def __post_init__(self) -> None:
        self.known_requests = KnownRequests(self.registry)
        s = self.settings
        self.auth_limit = BodyLimit(s.max_auth_body_bytes, name="max_auth_body_bytes")
        self.body_limit = BodyLimit(s.max_body_bytes)
        self.bulk_limit = BodyLimit(s.max_body_bytes, s.max_bulk_body_bytes)
        self.batch_limit = BodyLimit(s.max_bulk_body_bytes, name="max_bulk_body_bytes")

    async def authenticate(self, call: Call) -> Principal:
        """Return the caller's principal, by Bearer token, or by cookie if a trusted page sent the request. Raises
        Unauthenticated and CrossSite."""
        credential = call.bearer()
        if credential is None:
            credential = call.session()
            if credential is None:
                words = (call.header(b"authorization") or "").split()
                raise MissingScheme if len(words) == 1 else Unauthenticated("no credentials")
            check_browser(call, self.origins)
        principal = await self.resolver.resolve(credential)
        self.accounts.note_use(principal, call)
        call.caller = credential, principal
        return principal

    async def read(self, call: Call) -> bytes:
        """Return the request's body, within its limit. Raises the errors of `read_body`."""
        return await read_body(call, self.body_limit, self.settings.body_timeout, self.resolver.resolve)

    async def read_small(self, call: Call) -> bytes:
        """Return the body of a request that signs in or concerns the caller's own account."""
        return await read_body(call, self.auth_limit, self.settings.body_timeout, self.resolver.resolve)

    async def read_several(self, call: Call) -> bytes:
        """Return the body of a request that may contain many entities."""
        return await read_body(call, self.bulk_limit, self.settings.body_timeout, self.resolver.resolve)

    async def read_batch(self, call: Call, principal: Principal) -> bytes:
        """Return the body of a request that contains other requests. Only a caller that may write to some store may
        send a large one: the stores that a batch names are known when all of it has arrived."""
        limit = self.batch_limit if principal.may_write_somewhere() else self.body_limit
        return await read_body(call, limit, self.settings.body_timeout, self.resolver.resolve)
