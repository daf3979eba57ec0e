"""Cut Microsoft's type files down to what the emulator speaks. Usage: python prune.py FOLDER (see README.md)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PROVIDER = "Microsoft.MachineLearningServices/workspaces"
# api-version -> resource types that azure-ai-ml 1.35.2 reads or writes with it
KEEP = {
    "2022-02-01-preview": ("/onlineEndpoints",),
    "2023-04-01": ("/codes/versions",),
    "2023-04-01-preview": (
        "/environments/versions",
        "/environments",
        "/data/versions",
        "/data",
        "/onlineEndpoints/deployments",
    ),
    "2023-08-01-preview": ("", "/computes", "/models", "/models/versions"),
    "2024-01-01-preview": ("/jobs", "/marketplaceSubscriptions", "/serverlessEndpoints"),
    "2024-10-01-preview": ("", "/datastores", "/jobs", "/serverlessEndpoints"),
    "2025-01-01-preview": ("/jobs",),
}
# Of these alternatives the emulator offers only some.
VARIANTS = {
    "jobType": {"Command", "FineTuning", "Pipeline", "Sweep"},
    "modelProvider": {"Custom"},
    "computeType": {"AmlCompute"},
    "datastoreType": {"AzureBlob"},
}
FUNCTIONS = {"listSecrets", "listKeys", "startPendingUpload", "getLogs", "token", "regenerateKeys", "cancel"}


def number(reference: dict[str, str]) -> int:
    return int(reference["$ref"].rsplit("/", 1)[-1])


def slim(kind: dict[str, Any]) -> dict[str, Any]:
    """A type without descriptions, and without the variants nobody here uses."""
    kept = {key: value for key, value in kind.items() if key not in ("description", "sensitive")}
    for place in ("properties", "baseProperties"):
        if place in kept:
            fields = kept[place].items()
            kept[place] = {name: {"type": each["type"], "flags": each.get("flags", 0)} for name, each in fields}
    if wanted := VARIANTS.get(kept.get("discriminator", "")):
        kept["elements"] = {name: each for name, each in kept["elements"].items() if name in wanted}
    return kept


def references(value: Any) -> list[dict[str, str]]:
    """Every {"$ref": …} inside, to be renumbered in place."""
    if isinstance(value, dict):
        return [value] if "$ref" in value else [found for each in value.values() for found in references(each)]
    return [found for each in value for found in references(each)] if isinstance(value, list) else []


def prune(types: list[dict[str, Any]], version: str, suffixes: tuple[str, ...]) -> list[dict[str, Any]]:
    """The wanted resources and functions with every type they reach, renumbered in order of appearance."""
    wanted = {f"{PROVIDER}{suffix}".lower() for suffix in suffixes}
    roots = [
        each
        for each in types
        if (each["$type"] == "ResourceType" and each["name"].split("@")[0].lower() in wanted)
        or (
            each["$type"] == "ResourceFunctionType"
            and each["name"] in FUNCTIONS
            and each["resourceType"].lower() in wanted
        )
    ]
    kept = [slim(json.loads(json.dumps(root))) for root in roots]
    place: dict[int, int] = {}
    for each in kept:  # grows while it is walked
        for reference in references(each):
            old = number(reference)
            if old not in place:
                place[old] = len(kept)
                kept.append(slim(json.loads(json.dumps(types[old]))))
            reference["$ref"] = f"#/{place[old]}"
    missing = wanted - {each["name"].split("@")[0].lower() for each in kept if each["$type"] == "ResourceType"}
    if missing:
        raise SystemExit(f"{version} has no {', '.join(sorted(missing))}")
    return kept


def main(source: Path) -> None:
    for version, suffixes in KEEP.items():
        types = json.loads((source / f"bicep-{version}.json").read_text())
        lines = ",\n".join(json.dumps(each, separators=(",", ":")) for each in prune(types, version, suffixes))
        (Path(__file__).parent / f"types-{version}.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
