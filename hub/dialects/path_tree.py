"""Routing: operations are found in a tree of path segments instead of trying path by path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic

from hub.dialects.base import C, Operation


@dataclass(slots=True)
class PathNode(Generic[C]):
    """The paths that share their first segments. `operations` end at this node, by method. `literals` and `parameters`
    lead on, by literal segment or by parameter name; `only` is the parameter if there is exactly one."""

    operations: dict[str, Operation[C]] = field(default_factory=dict)
    literals: dict[str, PathNode[C]] = field(default_factory=dict)
    parameters: dict[str, PathNode[C]] = field(default_factory=dict)
    only: tuple[str, PathNode[C]] | None = None

    def add(self, operation: Operation[C], segments: Sequence[str]) -> None:
        """Add an operation below this node, at these segments. GET answers HEAD as well."""
        if not segments:
            self.operations[operation.method] = operation
            if operation.method == "GET":
                self.operations["HEAD"] = operation
            return
        name = segments[0].strip("{}")
        nodes = self.literals if name == segments[0] else self.parameters
        nodes.setdefault(name, PathNode()).add(operation, segments[1:])
        if len(self.parameters) == 1:
            [self.only] = self.parameters.items()
        else:
            self.only = None

    def find(self, segments: Sequence[str], path: dict[str, str]) -> dict[str, Operation[C]]:
        """Return the operations at a path by method; empty if the path does not exist. Store parameter values in
        `path`."""
        node = self
        values: dict[str, str] = {}
        for number, segment in enumerate(segments):
            literal, only = node.literals.get(segment), node.only
            if literal is None and only is not None and segment:
                name, node = only
                values[name] = segment
            elif literal is not None and not (segment and node.parameters):
                node = literal
            else:
                found = node._try_each(segments[number:], path)
                break
        else:
            found = node.operations
        if found:
            path.update(values)
        return found

    def _try_each(self, segments: Sequence[str], path: dict[str, str]) -> dict[str, Operation[C]]:
        """Find as `find` does, where more than one way may lead on."""
        if not segments:
            return self.operations
        first, rest = segments[0], segments[1:]
        literal = self.literals.get(first)
        found = literal._try_each(rest, path) if literal else {}
        if found or not first:
            return found
        for name, node in self.parameters.items():
            found = node._try_each(rest, path)
            if found:
                path[name] = first
                return found
        return {}
