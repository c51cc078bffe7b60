"""The two steps of registration: bodies, answers, and what they do not tell."""

from __future__ import annotations

from tests.listings.support import Tenant, Tenants, mailed_code
from tests.listings.written import refused
from tests.support.smtp import Inbox

SENT = {"detail": "If the account exists, a verification code has been emailed."}
INVALID = {"detail": "Invalid or expired code."}


async def test_a_code_is_exchanged_for_a_key(tenant: Tenant, tenants: Tenants, inbox: Inbox) -> None:
    client = tenants.client()
    login = tenant.platform.user["login"]
    answer = await client.post("register/", json={"username": login})
    assert (answer.status_code, answer.json()) == (200, SENT)
    code = await mailed_code(inbox, tenant.platform.user["email"])
    body = {"username": login, "api_key_name": "My website", "code": code}
    answer = await client.post("register/verify/", json=body)
    assert answer.status_code == 200, answer.text
    given = answer.json()
    assert given == {
        "user_id": tenant.number,
        "username": login,
        "key": given["key"],
        "scope": "R",
        "name": "My website",
        "detail": "Store this key now — it will not be shown again. Use user_id in all /v1/<user_id>/... requests.",
    }
    assert refused(await client.post("register/verify/", json=body)) == INVALID  # a code is used once
    account = await tenants.client(given["key"]).get(f"{tenant.number}/account/")
    assert account.json()["key"]["name"] == "My website"


async def test_nothing_tells_whether_a_user_exists(tenants: Tenants) -> None:
    client = tenants.client()
    answer = await client.post("register/", data={"username": "nobody"})
    assert (answer.status_code, answer.json()) == (200, SENT)
    for username, code in [("nobody", "123456"), ("nobody", "1")]:
        body = {"username": username, "api_key_name": "x", "code": code}
        assert refused(await client.post("register/verify/", data=body)) == INVALID


async def test_bodies_of_registration(tenants: Tenants) -> None:
    client = tenants.client("R_nonsense")  # which is not looked at
    required = ["This field is required."]
    assert refused(await client.post("register/")) == {"username": required}
    assert refused(await client.post("register/", json={"username": " "})) == {
        "username": ["This field may not be blank."]
    }
    headers = {"Content-Type": "application/json"}
    answer = refused(await client.post("register/", content=b"{", headers=headers))
    assert answer["detail"].startswith("JSON parse error - ")
    assert refused(await client.post("register/verify/", json={})) == {
        "username": required, "api_key_name": required, "code": required
    }  # fmt: skip
