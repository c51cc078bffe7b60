"""The forms of a store whose definition changes: names and types of its columns, and what an entity holds in each.

An entity has a `number`, which never changes by itself, and from which the values of its columns follow. So each entity
shows whether a change of its definition has changed it once, in part, twice or not at all.
"""

from __future__ import annotations

import random
from collections.abc import Set
from dataclasses import dataclass, replace
from typing import Any, Final

from stores.records import Entity

FIXED: Final[list[Entity]] = [
    {"id": "tag", "type": "Text"},
    {"id": "kind", "type": "Text"},
    {"id": "phase", "type": "Number"},
    {"id": "n", "type": "Number"},
    {"id": "code", "type": "Text", "unique": True},
    {"id": "flock", "type": "Text", "index": True},
    {"id": "children", "type": "Number"},
    {"id": "number", "type": "Number"},
]
"""The fields that stay, beside the one by which children refer to their parents."""

AMOUNTS: Final = ("amount", "total")
REBATES: Final = ("rebate", "discount")
ABSENT, OPTIONAL, FILLED = range(3)
"""The states of the currency: no field, a field without a value in most entities, a required one with a default."""
_CURRENCY: Final[Entity] = {"id": "currency", "type": "Text"}
_FOREIGN: Final[Entity] = {"id": "foreign", "type": "Boolean"}
_DEFAULT: Final = "CAD"
_OTHER: Final = "EUR"

COLUMNS: Final = frozenset({*AMOUNTS, *REBATES, "currency", "foreign"})
"""The names of columns in any form."""


@dataclass(frozen=True)
class Form:
    """One form. The amount is unique and indexed in all of them; every third entity has a rebate. `amounts` and
    `rebates` are types."""

    amount: str = "amount"
    amounts: str = "Text"
    rebate: str = "rebate"
    rebates: str = "Text"
    currency: int = ABSENT

    @property
    def fields(self) -> list[Entity]:
        """The columns as fields of a definition."""
        currency = {
            ABSENT: [],
            OPTIONAL: [_CURRENCY, _FOREIGN],
            FILLED: [{**_CURRENCY, "required": True, "default": _DEFAULT}, _FOREIGN],
        }
        return [
            {"id": self.amount, "type": self.amounts, "unique": True, "index": True},
            {"id": self.rebate, "type": self.rebates},
            *currency[self.currency],
        ]

    @property
    def names(self) -> Set[str]:
        return {field["id"] for field in self.fields}

    def is_of(self, definition: Entity) -> bool:
        """Return whether a definition has this form."""
        found = [_outline(field) for field in definition["fields"] if field["id"] in COLUMNS]
        return found == [*map(_outline, self.fields)]

    def columns(self, number: int) -> Entity:
        """Return the columns of a new entity with this number, or of one that gets it. Every fifth one has a currency
        of its own where there is the field."""
        amount, rebate = number + 0.5, number if number % 3 == 0 else None
        made: Entity = {
            "number": number,
            self.amount: str(amount) if self.amounts == "Text" else amount,
            self.rebate: str(rebate) if rebate is not None and self.rebates == "Text" else rebate,
        }
        return made | {"currency": _OTHER, "foreign": True} if self.currency and number % 5 == 0 else made

    def fits(self, entity: Entity, shown: Set[str] = COLUMNS) -> bool:
        """Return whether an entity holds exactly what belongs to this form, as far as these names are shown."""
        number, foreign = entity.get("number"), entity.get("foreign") is True
        expected = {} if number is None else self.columns(number)
        if foreign:
            expected |= {"currency": _OTHER, "foreign": True}
        else:
            expected |= {"currency": _DEFAULT if self.currency == FILLED else None, "foreign": None}
        found = COLUMNS & entity.keys()
        return found <= self.names & shown and all(
            _is_same(entity.get(name), expected.get(name)) for name in COLUMNS & shown
        )

    def shows_like(self, other: Form) -> bool:
        """Return whether a change to the other form in one commit leaves live views and positions as they are."""
        return [(field["id"], field["type"]) for field in self.fields] == [
            (field["id"], field["type"]) for field in other.fields
        ]

    def another(self) -> Form:
        """Return a form that one request can make of this one: each column gets another name, or another type."""
        amount = random.choice(
            [
                {},
                {"amount": _other(AMOUNTS, self.amount)},
                {"amounts": _other(("Text", "Numeric"), self.amounts)},
            ]
        )
        rebate = random.choice(
            [
                {},
                {"rebate": _other(REBATES, self.rebate)},
                {"rebates": _other(("Text", "Number"), self.rebates)},
            ]
        )
        made = replace(self, **amount, **rebate, currency=(self.currency + random.randint(0, 1)) % 3)
        return self.another() if made == self else made

    def data_for(self, other: Form) -> Entity:
        """Return `data`, what becomes of the values in a change to the other form; empty if there is nothing to do."""
        pairs = [(self.amount, other.amount), (self.rebate, other.rebate)]
        types = [(other.amount, self.amounts, other.amounts), (other.rebate, self.rebates, other.rebates)]
        data: Entity = {
            "rename": {former: name for former, name in pairs if former != name},
            "convert": [name for name, former, type_ in types if former != type_],
            "fill": ["currency"] if other.currency == FILLED != self.currency else [],
            "drop": ["currency", "foreign"] if other.currency == ABSENT != self.currency else [],
        }
        return {name: operation for name, operation in data.items() if operation}


def form_like(entity: Entity) -> Form:
    """Return the form that an entity looks like; it may not fit it."""
    amount, rebate = (next((name for name in names if name in entity), names[0]) for names in (AMOUNTS, REBATES))
    return Form(
        amount,
        "Text" if isinstance(entity.get(amount), str) else "Numeric",
        rebate,
        "Text" if isinstance(entity.get(rebate), str) else "Number",
        OPTIONAL if entity.get("currency") is None else FILLED,
    )


def _outline(field: Entity) -> tuple[Any, ...]:
    return field["id"], field["type"], bool(field.get("required")), bool(field.get("unique")), bool(field.get("index"))


def _other(pair: tuple[str, str], one: str) -> str:
    return pair[1] if one == pair[0] else pair[0]


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two values are equal and of one type: true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)
