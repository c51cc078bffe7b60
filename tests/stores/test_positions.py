"""Positions of MongoDB's feed: a position means the same to the process that has made it and to all others."""

from __future__ import annotations

import pytest

from auth.secret_key import SecretKey
from stores.errors import HistoryGone
from stores.mongo import position
from stores.mongo.position import Epoch

SEAL = SecretKey.generate().cover("positions")
EARLY, LATE = (f"826B0A29A1000000{n:02X}2B042C0100296E5A1004" for n in (7, 15))


def tokens() -> list[dict[str, str]]:
    return [{"_data": EARLY}, {"_data": LATE}, {"_data": LATE, "more": "1"}]


@pytest.mark.parametrize("token", tokens())
@pytest.mark.parametrize("seal", [SEAL, None])
def test_a_position_means_the_same_to_all(token: dict[str, str], seal: object) -> None:
    makes = Epoch("0a1b2c3d", seal)  # type: ignore[arg-type]
    made = position.at_token(makes, token)
    for epoch in (makes, Epoch("0a1b2c3d", seal)):  # type: ignore[arg-type]
        assert position.parse_order(epoch, made) == bytes.fromhex(token["_data"])
        assert position.token_text(epoch, made) == token["_data"]


@pytest.mark.parametrize("token", tokens())
def test_a_position_of_another_database(token: dict[str, str]) -> None:
    epoch = Epoch("0a1b2c3d", SEAL)
    made = position.at_token(epoch, token)
    for read in (position.parse_order, position.token_text):
        with pytest.raises(HistoryGone):
            read(epoch, made.replace("0a1b2c3d", "ffffffff"))
