"""Names are the usual terms of the field: names that were replaced do not come back."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("hub", "auth", "realtime", "stores", "benchmarks")


class Renamed(NamedTuple):
    """An old name and its replacements. `within` lists the paths where the old name is forbidden; elsewhere it may be a
    usual word."""

    old: str
    new: str
    within: tuple[str, ...] = PACKAGES


RENAMED = (
    # Visibility.
    Renamed("sight", "visibility_index, authorize, visibility"),
    Renamed("viewers", "acl"),
    Renamed("viewer", "key"),
    Renamed("VIEWERS", "ACL_IDS"),
    Renamed("Viewer", "AclKey"),
    Renamed("viewer_of", "acl_key_of"),
    # Exchanges with MongoDB.
    Renamed("gathering", "coalescer, corked, builder"),
    Renamed("Gatherer", "Coalescer"),
    Renamed("_gatherer", "_coalescer"),
    Renamed("getting", "batched_reads"),
    Renamed("Getter", "BatchedReads"),
    Renamed("_getter", "_batched_reads"),
    Renamed("inserting", "batched_inserts"),
    Renamed("Inserter", "BatchedInserts"),
    Renamed("_inserter", "_batched_inserts"),
    Renamed("_TOGETHER", "_BATCH_SIZE"),
    # Output and input buffers.
    Renamed("together", "cork, commit, run_all"),
    Renamed("_hold", "_cork, _buffer, _keep_unparsed"),
    Renamed("_held", "_corked, _buffered", ("realtime", "hub/server/connection.py", "hub/server/protocol.py")),
    Renamed("_held_bytes", "_corked_bytes"),
    Renamed("release", "uncork", ("realtime/engineio",)),
    Renamed("_release", "_take_buffered"),
    Renamed("count_held", "count_input"),
    Renamed("GATHERED", "CORKED_SECONDS"),
    Renamed("GATHER_SECONDS", "BATCH_SECONDS"),
    Renamed("GATHER_LINES", "BATCH_LINES"),
    Renamed("GatheringHandler", "BatchingHandler"),
    Renamed("_Gathering", "_DeltaBuilder"),
    Renamed("_commit_together", "run_once"),
    # System stores.
    Renamed("Rules", "StoreHooks"),
    Renamed("rules", "hooks"),
    Renamed("_rules", "_hooks"),
    Renamed("UserRules", "UserHooks"),
    Renamed("GroupRules", "GroupHooks"),
    Renamed("RoleRules", "RoleHooks"),
    Renamed("TokenRules", "TokenHooks"),
    Renamed("SessionRules", "SessionHooks"),
    Renamed("SecondFactorRules", "SecondFactorHooks"),
    Renamed("SignInRules", "SignInHooks"),
    Renamed("DefinitionRules", "DefinitionHooks"),
    Renamed("definition_rules", "definitions"),
    Renamed("standard_rules", "system_hooks"),
    Renamed("standard_schemas", "system_schemas"),
    Renamed("standard", "system_stores"),
    Renamed("_standard", "_system"),
    Renamed("STANDARD", "SYSTEM_STORES"),
    Renamed("administrative", "system, system_writes"),
    Renamed("_administrative", "_system"),
    Renamed("_not_administrative", "_not_system"),
    Renamed("AdministrativeWrites", "SystemStoreWrites"),
    Renamed("checks", "violations, written, replacement"),
    Renamed("sent_back", "violations"),
    Renamed("parts", "components", ("hub/dialects/platform/openapi.py",)),
    # Groups.
    Renamed("Branches", "GroupPathKeeper"),
    Renamed("branches", "group_paths"),
    Renamed("_branches", "_group_paths"),
    # Requests.
    Renamed("Below", "PrefixDispatch"),
    Renamed("Branch", "PathNode"),
    Renamed("Envelope", "RequestMiddleware"),
    # Live.
    Renamed("Live", "LiveContext"),
    Renamed("LiveHub", "SessionRegistry"),
    Renamed("LiveServer", "LiveGateway"),
    Renamed("make_live", "make_session_registry"),
    Renamed("Outlet", "ClientSink"),
    Renamed("ClientOutlet", "SocketIOSink"),
    Renamed("outlet", "sink"),
    Renamed("Door", "TransportAccess"),
    Renamed("DoorWire", "TransportWire"),
    Renamed("door", "access"),
    Renamed("_door", "_access"),
    Renamed("door_of", "transport_access_of"),
    Renamed("overheard", "listeners"),
    Renamed("_overhear", "_on_change"),
    Renamed("tell", "deliver", ("auth", "realtime", "stores", "benchmarks")),
    Renamed("_tell", "_deliver_change"),
    Renamed("told", "delivered, event, reported"),
    Renamed("_told", "_acknowledged"),
    Renamed("Told", "EncodedEvent, Numbers, Measured"),
    Renamed("told_off_loop", "event_off_loop"),
    Renamed("is_telling", "is_delivering"),
    Renamed("_telling", "_delivering"),
    Renamed("_may_be_told", "_may_deliver"),
    Renamed("foretold", "pending_ends"),
    Renamed("foretold_after", "pending_ends_after"),
    Renamed("tell_missed", "check_complete"),
    Renamed("tell_utf8", "detect_utf8"),
    Renamed("give", "bind"),
    Renamed("take", "unbind", ("auth/positions.py",)),
    Renamed("give_in_between", "bind_to_nobody"),
    Renamed("floor", "delivered_up_to, oldest, at_least, baseline"),
    # One word that had three meanings.
    Renamed("settle", "restamp, wait_until_idle"),
    Renamed("_settle", "_send_differences"),
    Renamed("_settle_later", "_restamp_later"),
    Renamed("_settling", "_restamping"),
    Renamed("_settle_those_behind", "_detach_lagging"),
    Renamed("settled", "differences, inbox_done, warm_up, known"),
    Renamed("_settled", "_differences"),
    Renamed("Settled", "ViewDifference"),
    Renamed("SETTLED", "WARM_UP"),
    Renamed("settled_payload", "difference_payload"),
    # SQLite.
    Renamed("Fresh", "CommittedChanges"),
    Renamed("fresh", "committed, read_changes", ("stores/sqlite", "realtime")),
    Renamed("Stretch", "KeyRange"),
    Renamed("stretch", "key_range"),
    Renamed("stretches", "key_ranges, ranges"),
    Renamed("_stretches", "_key_ranges"),
    Renamed("_stretch_sql", "_range_sql"),
    Renamed("_STRETCH", "_TIME_RANGE"),
    Renamed("watch_indexes", "mark_mixed_paths"),
    Renamed("TakesLonger", "AllowanceSpent"),
    # Writes, orders and counts.
    Renamed("Writer", "GroupCommitter, WriteExecutor, FileWriter, PacedWriter"),
    Renamed("_writer", "_committer", ("stores",)),
    Renamed("CREATION", "CREATION_ORDER, CREATION_ORDER_SQL"),
    Renamed("Tally", "CounterCollector, EntityCount, LoadResult"),
    Renamed("tally", "entity_count, entities, result"),
    Renamed("tallies", "collectors, results"),
    Renamed("Durations", "HistogramCollector"),
    # A place remains only where an entry has its own in the feed or in an audit trail.
    Renamed("Places", "FairSemaphore"),
    Renamed("ReadPlaces", "ReadSlots"),
    Renamed("ShortPlaces", "ShortReadSlots"),
    Renamed("long_place", "long_slot"),
    Renamed("Place", "EntityKey, ListSlot, PoolSetup, ReferenceMember"),
    # The digits after the point of a Numeric are `places`, as in other libraries.
    Renamed("places", "slots, locations, keys, indexes, members", ("hub", "auth", "realtime", "benchmarks")),
    Renamed("_places", "_slots, _locations, _keys, _indexes, _members"),
    Renamed("place", "slot, location, index, sort_key", ("auth", "realtime", "hub/cli", "hub/http", "benchmarks")),
    Renamed("_place", "_slot, _target, _field_pattern, _sort_key", ("auth", "realtime", "hub", "stores")),
    Renamed("database_place", "database_address"),
    # Existing data, and what is held.
    Renamed("standing_data", "existing_data"),
    Renamed("standing_references", "existing_references"),
    Renamed("standing_changes", "examination"),
    Renamed("standing", "existing, rechecks"),
    Renamed("Standing", "ExistingData"),
    Renamed("DataStandsAgainst", "DataConflict"),
    Renamed("_Doubt", "_Unverified"),
    Renamed("Held", "LeaseState"),
    Renamed("HeldAnswer", "BufferedAnswer"),
    Renamed("HeldChanges", "WaitingChanges"),
    Renamed("groups_held", "groups_in_use"),
    Renamed("held_by", "released_after, current_key_field"),
    Renamed("is_held", "is_stored"),
    Renamed("Sight", "Visibility"),
    # A limit has a name and an error. A bound is an end of a range.
    Renamed("Bound", "SizeLimit"),
    Renamed("Bounds", "WriteLimits"),
    Renamed("BodyBounds", "JsonLimits"),
    Renamed("FormBounds", "FormLimits"),
    Renamed("HeadBounds", "HeadLimits"),
    Renamed("Limits", "FilterLimits"),
    Renamed("_Sight", "_VisibleIds"),
    Renamed("place_by_name", "location_by_name"),
    Renamed("Pen", "PacedConnection"),
    Renamed("Resolver", "ReferenceResolver", ("hub/services/batch.py", "hub/services/batch_answers.py")),
    # Limits.
    Renamed("MOST_KNOWN", "MOST_UNSEALED_POSITIONS"),
    Renamed("MOST_SEEN", "MOST_COUNTED_PRINCIPALS"),
    Renamed("MOST_KEPT", "MOST_COMPILED_FILTERS"),
    Renamed("MOST_TERMS", "MOST_INDEXED_VALUES"),
    Renamed("MOST_HELD", "MOST_CORKED_BYTES"),
    Renamed("MOST_FOLDED", "MOST_SEARCH_TEXT"),
    Renamed("MOST_EXAMINED", "MOST_EXAMINED_HISTORY_BYTES"),
    Renamed("LEAST_READ", "LEAST_BYTES_TAKEN"),
    Renamed("LONGEST_WAIT", "LONGEST_WRITE_WAIT"),
    Renamed("ENTERING", "MOST_ENTERING_ENTITIES"),
    Renamed("ENTERING_BYTES", "MOST_ENTERING_BYTES"),
    # Engines.
    Renamed("hold_to", "limit_files"),
    Renamed("constant", "stored_constant", ("stores", "hub/key_file.py")),
    Renamed("repeated", "count_duplicates", ("stores", "hub/services/system_stores/definitions.py")),
    Renamed("enough", "count_limit", ("stores",)),
    Renamed("unhurried", "run_housekeeping"),
    Renamed("UNHURRIED_SECONDS", "HOUSEKEEPING_SECONDS"),
    Renamed("_LookedAt", "_ParsedChanges"),
    Renamed("_looked_at", "_parsed_changes"),
    # Services and sessions.
    Renamed("silence", "stop_catching_up", ("realtime",)),
    Renamed("in_company", "overlapped"),
    Renamed("alone", "overlapped", ("hub/services/system_writes.py",)),
    Renamed("beside", "hook_members", ("hub/services",)),
    Renamed("on_current", "retry_on_current"),
    Renamed("decided", "retry_unexpected"),
    Renamed("say_position", "send_position"),
    Renamed("became", "on_new_principal"),
    Renamed("_became", "_on_new_principal"),
    Renamed("rest", "drop_cached", ("realtime",)),
    Renamed("see", "set_view", ("realtime",)),
    # Consumers.
    Renamed("begin_anew", "restart_at"),
    # Benchmarks.
    Renamed("sides", "targets"),
    Renamed("side", "target", ("benchmarks",)),
    Renamed("Side", "Target"),
    Renamed("HubSide", "HubTarget"),
    Renamed("NodeSide", "NodeTarget"),
    Renamed("crowds", "client_pools, pools"),
    Renamed("_crowds", "_pools"),
    Renamed("crowd", "pool"),
    Renamed("_crowd", "_pool"),
    Renamed("Crowd", "ClientPool"),
    Renamed("RemoteCrowd", "RemotePool"),
    Renamed("remote_crowd", "remote_pool"),
    Renamed("several", "multi_process", ("benchmarks",)),
    Renamed("Several", "MultiProcess"),
)


OLD_WORDS = {"administrative": "system", "standard store": "system store"}
"""Words of texts, and those that replaced them. Most old names are usual words, which texts may use."""


def identifiers(path: Path) -> Iterator[str]:
    """Yield the names of the module and its packages, and of its definitions, arguments, variables and attributes."""
    yield from path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.Attribute(attr=name) | ast.Name(id=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.alias(name=name, asname=other):
                yield from name.split(".")
                yield from [other] if other else []
            case ast.ImportFrom(module=str(module)):
                yield from module.split(".")
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name


@cache
def used() -> dict[str, set[str]]:
    """Return the paths of the modules that use each name."""
    found: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for name in identifiers(path):
                found.setdefault(name, set()).add(path.relative_to(ROOT).as_posix())
    return found


@pytest.mark.parametrize("renamed", RENAMED, ids=lambda renamed: renamed.old)
def test_no_old_name_comes_back(renamed: Renamed) -> None:
    """No module uses the old name."""
    places = sorted(p for p in used().get(renamed.old, ()) if p.startswith(renamed.within))
    assert not places, f"{renamed.old} is called {renamed.new}"


def texts() -> Iterator[tuple[str, str]]:
    """Yield the path and text of every string and docstring of the packages, and of every page."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(), str(path))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield path.relative_to(ROOT).as_posix(), node.value
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        yield path.relative_to(ROOT).as_posix(), path.read_text()


def test_no_old_word_comes_back_in_texts() -> None:
    """Answers, docstrings and pages use the words of the names."""
    found = [(place, old) for place, text in texts() for old in OLD_WORDS if old in " ".join(text.lower().split())]
    assert not found, f"the words are {OLD_WORDS}"


def test_every_new_name_is_in_use() -> None:
    """Each replacement in the list is in use."""
    new = {name for renamed in RENAMED for name in renamed.new.split(", ")}
    assert new <= used().keys()
