"""What the writes of a commit on MongoDB tell about it before it begins."""

from __future__ import annotations

import pytest

from stores.computing import OperatorChange
from stores.field import Field
from stores.mongo.computing import PART_BYTES
from stores.mongo.planning import is_bulk, is_large, with_long_procedures
from stores.operators import Operation, Operator, Operators
from stores.protocol import Insert, Procedure, Steps, Update, Written
from stores.schema import StoreDefinition

STORE = "people"
DEFINITION = StoreDefinition(
    STORE, fields=(Field("mails", "Email", many=True), Field("few", "Email", many=True, max_items=5))
)


def steps() -> Steps:
    yield from ()
    return Written(b"", 0, 0)


def test_large_procedures_take_room_before_they_begin() -> None:
    """Alone as well, since they are many writes."""
    text = {"text": "x" * (PART_BYTES // 2 + 1)}
    assert is_large([Procedure(STORE, steps, size=PART_BYTES + 1)])
    assert is_large([Procedure(STORE, steps, size=PART_BYTES // 2), Insert(STORE, text)])
    assert not is_large([Procedure(STORE, steps, size=PART_BYTES)])
    assert not is_large([Procedure(STORE, steps), Insert(STORE, text)])


@pytest.mark.parametrize(("field", "long"), [("mails", True), ("few", False), ("other", False)])
def test_procedures_are_long_if_what_they_check_is(field: str, long: bool) -> None:
    """They compute what the write behind them computes."""
    operators = Operators((Operation(Operator.PUSH, (field,), ["a@example.org"]),), 20)
    update = Update(STORE, "a", {}, compute=OperatorChange(operators, DEFINITION))
    writes = with_long_procedures([Procedure(STORE, steps), update])
    assert is_bulk(writes) is long
    assert writes[1] is update
