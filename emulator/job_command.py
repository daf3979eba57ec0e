"""What a job's command becomes: `${{inputs.x}}` and `${{outputs.y}}` replaced, `$[[…]]` kept or dropped. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from emulator.errors import ArmError

REFERENCE = re.compile(r"\$\{\{\s*(inputs|outputs)\.([A-Za-z_]\w*)\s*\}\}")
OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)


def references(command: str) -> set[tuple[str, str]]:
    """The (kind, name) pairs a command cannot do without; those inside `$[[…]]` are optional."""
    return {(found[1], found[2]) for found in REFERENCE.finditer(OPTIONAL.sub("", command))}


def missing_references(command: str, inputs: Mapping[str, object], outputs: Mapping[str, object]) -> list[str]:
    """References to inputs or outputs the job does not have, as "inputs.x", sorted."""
    known = {"inputs": inputs, "outputs": outputs}
    return sorted(f"{kind}.{name}" for kind, name in references(command) if name not in known[kind])


def resolve(command: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> str:
    """The command for the shell. Values go in as they are, unquoted, as the service does: quote them in the command.

    A part in `$[[…]]` stays (without the brackets) when everything it refers to is there, else it goes.
    ArmError 400 for a reference outside such a part that nothing answers.
    """
    known = {"inputs": inputs, "outputs": outputs}
    if missing := missing_references(command, inputs, outputs):
        raise ArmError(400, "UserError", f"The command refers to {', '.join(missing)}, which this job does not have.")

    def optional(found: re.Match[str]) -> str:
        there = all(name in known[kind] for kind, name in REFERENCE.findall(found[1]))
        return found[1] if there else ""

    return REFERENCE.sub(lambda found: known[found[1]][found[2]], OPTIONAL.sub(optional, command))
