"""A compact validator: does a JSON body fit the official type of its resource at the api-version that was used?"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "azure-types"
REQUIRED, READ_ONLY, CONSTANT = 1, 2, 8  # flags of a property
PATH = re.compile(
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.MachineLearningServices/(.+?)/?", re.IGNORECASE
)
Type = dict[str, Any]
LEAVES: dict[str, Callable[[Type, Any], bool]] = {
    "StringLiteralType": lambda kind, value: value == kind["value"],
    "StringType": lambda kind, value: isinstance(value, str) and re.search(kind.get("pattern", ""), value) is not None,
    "IntegerType": lambda _, value: type(value) is int,
    "BooleanType": lambda _, value: type(value) is bool,
}
# Microsoft's type files know no fractions: a number of the specification is an IntegerType there as well.
FRACTIONS = {"samplingRate"}
# The types require it, and no answer of the service has it: secrets are read with listSecrets alone.
WRITE_ONLY = {"secrets"}


@dataclass(frozen=True)
class Types:
    """The types of one api-version."""

    all: tuple[Type, ...]

    def at(self, reference: dict[str, str]) -> Type:
        return self.all[int(reference["$ref"].rsplit("/", 1)[-1])]

    def resource(self, name: str) -> Type | None:
        names = (each for each in self.all if each["$type"] == "ResourceType")
        found = next((each for each in names if each["name"].split("@")[0].lower() == name.lower()), None)
        return self.at(found["body"]) if found else None

    def function(self, resource: str, name: str) -> Type | None:
        named = [
            each
            for each in self.all
            if each["$type"] == "ResourceFunctionType" and each["name"].lower() == name.lower()
        ]
        return next((each for each in named if each["resourceType"].lower() == resource.lower()), None)

    def check(self, kind: Type, value: Any, where: str, *, request: bool = False) -> Iterator[str]:
        """Every way in which `value` is not of type `kind`; null fits anywhere, the service writes it for "not set"."""
        name = kind["$type"]
        if value is None or name == "AnyType":
            return
        if name == "UnionType":
            options = [self.at(each) for each in kind["elements"]]
            if not any(not list(self.check(each, value, where, request=request)) for each in options):
                yield f"{where}: {value!r} is none of {[each.get('value', each['$type']) for each in options]}"
        elif name in LEAVES:
            if not LEAVES[name](kind, value):
                yield f"{where}: {value!r} is not {kind.get('value') or kind.get('pattern') or name}"
        elif not isinstance(value, list if name == "ArrayType" else dict):
            yield f"{where}: {value!r} is not {name}"
        elif name == "ArrayType":
            for index, each in enumerate(value):
                yield from self.check(self.at(kind["itemType"]), each, f"{where}[{index}]", request=request)
        else:
            yield from self._check_object(kind, value, where, request=request)

    def _check_object(self, kind: Type, value: dict[str, Any], where: str, *, request: bool) -> Iterator[str]:
        properties = dict(kind.get("properties") or kind.get("baseProperties") or {})
        others = kind.get("additionalProperties")
        if kind["$type"] == "DiscriminatedObjectType":
            variant = kind["elements"].get(value.get(kind["discriminator"]))
            if variant is None:
                yield f"{where}.{kind['discriminator']}: {value.get(kind['discriminator'])!r} is not known"
                return
            properties |= self.at(variant).get("properties") or {}
            others = others or self.at(variant).get("additionalProperties")
        for name, each in properties.items():
            constant = each["flags"] & CONSTANT
            write_only = name in WRITE_ONLY and not request
            if each["flags"] & REQUIRED and not constant and not write_only and name not in value:
                yield f"{where}: {name} is missing"
            if request and each["flags"] & READ_ONLY and not constant and value.get(name) is not None:
                yield f"{where}.{name}: is read-only"
        for name, each in value.items():
            if name in properties and name in FRACTIONS and type(each) is float:
                continue
            if name in properties:
                yield from self.check(self.at(properties[name]["type"]), each, f"{where}.{name}", request=request)
            elif others:
                yield from self.check(self.at(others), each, f"{where}.{name}", request=request)
            else:
                yield f"{where}.{name}: is not a property of the type"


@functools.cache
def types_of(version: str) -> Types | None:
    """The types kept for an api-version; None when none are."""
    path = FOLDER / f"types-{version}.json"
    return Types(tuple(json.loads(path.read_text()))) if path.exists() else None


def bodies(entry: dict[str, Any], name: str, single: bool) -> Iterator[tuple[str, Any, bool]]:
    """What of a logged exchange is a resource: (where, body, is it a request)."""
    answer = entry["response"]
    if single:
        yield "answer", answer, False
    elif isinstance(answer, dict):
        for each in answer.get("value", []):
            yield "answer.value[]", each, False
    if entry["method"] == "PUT" and isinstance(entry["request"], dict):
        last = entry["path"].rstrip("/").rsplit("/", 1)[-1]
        dropped = {key: value for key, value in entry["request"].items() if key not in ("id", "systemData")}
        yield "request", {**dropped, "name": last, "type": name}, True


def deviations(entry: dict[str, Any]) -> list[str] | None:
    """How a logged exchange differs from the official types; None when it is not about a resource we have types for."""
    found = PATH.fullmatch(entry["path"])
    types = types_of(entry["query"].get("api-version", ""))
    if entry["host"] != "management.azure.com" or found is None or types is None or entry["status"] >= 400:
        return None
    segments = found[1].split("/")
    name = "Microsoft.MachineLearningServices/" + "/".join(segments[0::2])
    if entry["method"] == "POST":
        parent = "Microsoft.MachineLearningServices/" + "/".join(segments[:-1][0::2])
        function = types.function(parent, segments[-1])
        if function is None:
            return None
        sides = (("input", entry["request"]), ("output", entry["response"]))
        checks = [types.check(types.at(function[side]), body, side) for side, body in sides if side in function]
        return [problem for check in checks for problem in check]
    kind = types.resource(name)
    if kind is None or entry["method"] not in ("GET", "PUT"):
        return None
    version = {"apiVersion": entry["query"]["api-version"]}
    return [
        problem
        for where, body, request in bodies(entry, name, single=len(segments) % 2 == 0)
        for problem in types.check(
            kind, {**body, **version} if isinstance(body, dict) else body, where, request=request
        )
    ]
