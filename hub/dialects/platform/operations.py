"""The operations of the platform API, except the one that describes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from hub.dialects import base
from hub.dialects.platform import accounts as a
from hub.dialects.platform import batch as b
from hub.dialects.platform import entities as e
from hub.dialects.platform import files as f
from hub.dialects.platform.context import PlatformContext

ParameterSet = Literal["none", "list", "filter", "projection", "upsert", "history"]
BodyKind = Literal[
    "none", "entity", "entities", "changes", "access", "credentials", "code", "login", "reset", "ending", "proof",
    "batch", "upload", "link",
]  # fmt: skip
ResultKind = Literal[
    "entity", "projected", "entities", "list", "count", "history", "session", "token", "signed_out", "account",
    "document", "enrolment", "recovery", "done", "page", "responses", "link",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation(base.Operation[PlatformContext]):
    """An operation with the attributes that the OpenAPI document needs.

    `idempotent` operations support Idempotency-Key. `writes` is set if the operation changes anything. `personal`
    operations return more to callers with credentials. `right`: the method that the caller must be allowed to use on
    the store, if that is not the operation's own. `for_administrators` operations are for administrators only. `errors`
    are status codes in addition to those implied by the other attributes.
    """

    result: ResultKind
    parameters: ParameterSet = "none"
    body: BodyKind = "none"
    idempotent: bool = False
    writes: bool = False
    personal: bool = False
    for_administrators: bool = False
    right: str = ""
    errors: tuple[int, ...] = field(default=())

    @property
    def needed(self) -> str:
        """The method that the caller must be allowed to use on the store."""
        return self.right or self.method


RESET_PATH: Final = "/api/v1/auth/reset/confirm"
STORE, ENTITY, FILES = "/api/v1/{store}", "/api/v1/{store}/{id}", "/api/v1/{store}/{id}/files"

ACCOUNT_OPERATIONS: Final = (
    Operation("signIn", "POST", "/api/v1/auth", "Sign in with a cookie", a.sign_in, "session", open=True,
              body="credentials", writes=True, errors=(401, 403, 429)),
    Operation("whoAmI", "GET", "/api/v1/auth", "Get the account that the credentials belong to", a.who_am_i, "account"),
    Operation("signOut", "DELETE", "/api/v1/auth", "End the session", a.sign_out, "signed_out", writes=True),
    Operation("endSessions", "DELETE", "/api/v1/auth/sessions", "End all other sessions", a.end_sessions, "count",
              body="ending", writes=True),
    Operation("issueToken", "POST", "/api/v1/auth/token", "Get an access token", a.issue_token, "token", open=True,
              body="credentials", writes=True, errors=(401, 429)),
    Operation("beginTotp", "POST", "/api/v1/auth/totp", "Get a secret for one-time codes", a.begin_totp, "enrolment",
              body="proof", writes=True, errors=(409, 429)),
    Operation("switchOffTotp", "DELETE", "/api/v1/auth/totp", "Switch off one-time codes", a.switch_off_totp, "done",
              body="code", writes=True, errors=(404, 429)),
    Operation("confirmTotp", "POST", "/api/v1/auth/totp/confirm", "Activate one-time codes", a.confirm_totp,
              "recovery", body="code", writes=True, errors=(404, 412, 429)),
    Operation("removeTotp", "DELETE", "/api/v1/users/{id}/totp", "Switch off the one-time codes of a user",
              a.remove_totp, "done", writes=True, for_administrators=True, errors=(404,)),
    Operation("requestReset", "POST", "/api/v1/auth/reset", "Request a mail for setting a new password",
              a.request_reset, "done", open=True, body="login", errors=(403, 429)),
    Operation("resetPage", "GET", RESET_PATH, "The page that this mail links to", a.reset_page,
              "page", open=True),
    Operation("confirmReset", "POST", RESET_PATH, "Set a new password", a.confirm_reset, "done",
              open=True, body="reset", writes=True, errors=(403, 429)),
)  # fmt: skip

ENTITY_OPERATIONS: Final = (
    Operation("batch", "POST", "/api/v1/batch", "Write several entities, all or none", b.batch, "responses",
              body="batch", writes=True, idempotent=True, errors=(404, 409, 412)),
    Operation("list", "GET", STORE, "List entities, count or sum them, or list the changes since a position", e.find,
              "list", parameters="list", errors=(410,)),
    Operation("create", "POST", STORE, "Create an entity, or several at once", e.create, "entities",
              parameters="upsert", body="entities", writes=True, idempotent=True, errors=(409,)),
    Operation("changeMatches", "PATCH", STORE, "Change every match of a filter", e.change_matches, "count",
              parameters="filter", body="changes", writes=True, errors=(409,)),
    Operation("deleteMatches", "DELETE", STORE, "Delete every match of a filter", e.delete_matches, "count",
              parameters="filter", writes=True),
    Operation("get", "GET", ENTITY, "Get an entity", e.get, "projected", parameters="projection", conditional=True),
    Operation("change", "PATCH", ENTITY, "Change fields of an entity", e.change, "entity", body="changes",
              writes=True, conditional=True, errors=(409,)),
    Operation("replace", "PUT", ENTITY, "Replace an entity", e.replace, "entity", body="entity", writes=True,
              conditional=True, errors=(409,)),
    Operation("delete", "DELETE", ENTITY, "Delete an entity", e.delete, "entity", writes=True, conditional=True,
              errors=(409,)),
    Operation("share", "PUT", ENTITY + "/access", "Share an entity with users", e.share, "entity", body="access",
              writes=True, conditional=True),
    Operation("upload", "POST", FILES + "/{field}", "Store a file in a field of an entity", f.upload, "entity",
              body="upload", writes=True, conditional=True, right="PATCH"),
    Operation("removeFile", "DELETE", FILES + "/{field}/{file}", "Take a file from a field of an entity", f.remove,
              "entity", writes=True, conditional=True, right="PATCH"),
    Operation("linkToFile", "POST", FILES + "/{field}/{file}/link", "Get a signed link to a private file", f.link,
              "link", body="link", right="GET"),
    Operation("linkToFileById", "POST", FILES + "/{field}/link", "Get a signed link by the id of the file alone",
              f.link, "link", body="link", right="GET"),
    Operation("history", "GET", ENTITY + "/history", "The audit trail of an entity", e.history, "history",
              parameters="history"),
)  # fmt: skip
