"""The plan as lines to read and to copy: the `gh api` call of each change; who makes the identities in Azure."""

import json
import shlex
from collections.abc import Iterator

from scripts.github.setup import GitHubSetUp


def plan(done: GitHubSetUp) -> Iterator[str]:
    """Each call as it would be run. JSON goes in on stdin, so that no value is in the list of processes."""
    for call in done.calls:
        yield f"\n# {call.why}"
        line = f"gh api --method {call.method} {shlex.quote(call.path)}"
        yield line if call.body is None else f"{line} --input - <<< {shlex.quote(json.dumps(call.body))}"


def credentials(done: GitHubSetUp) -> Iterator[str]:
    """What each environment's identity is in Azure: `provision` makes it, with these roles, for these jobs."""
    yield f"\nIn Azure, by an Owner: python -m scripts provision --repository {done.repository}"
    for each in done.credentials:
        yield f"\n# {each.environment}: may {each.may}"
        yield f"#   signs in with the subject {' or '.join(each.subjects)}"
        for grant in each.grants:
            yield f"#   {grant.role} on the {grant.scope}"
