"""The one place that runs `gh`: JSON in on stdin, JSON out, and one sentence for whatever goes wrong.

`gh` keeps the token (GH_TOKEN in a workflow, `gh auth login` on a desk): it never passes through this code, and no
value is put into an argument list except the path.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

from scripts.errors import InvalidInput, ScriptError

SECONDS = 60
PAGE = 100
STATUS = re.compile(r"\(HTTP (\d{3})\)")
NOT_HERE = "GitHub's command line gh is not installed: install it (cli.github.com says how) and run `gh auth login`."
NOT_SIGNED_IN = "gh is not signed in to GitHub: run `gh auth login`, or set GH_TOKEN in a workflow's step."


class GitHubRefused(InvalidInput):
    """GitHub said no for a reason that the caller can mend. `status` is HTTP's."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class GitHubFailed(ScriptError):
    """GitHub (or the way to it) failed: nothing is wrong with the input."""

    exit_code = 4


def unavailable() -> str | None:
    """Why GitHub cannot be asked from here, as a sentence; None when it can."""
    if shutil.which("gh") is None:
        return NOT_HERE
    asked = _run(["gh", "auth", "status"])
    return None if asked.returncode == 0 else NOT_SIGNED_IN


def find(path: str) -> Any | None:
    """GET; None when GitHub has no such thing (404)."""
    try:
        return call("GET", path)
    except GitHubRefused as error:
        if error.status == 404:
            return None
        raise


def pages(path: str) -> Iterator[Any]:
    """Every item of a list that GitHub gives in pages."""
    joint = "&" if "?" in path else "?"
    number = 1
    while True:
        items = call("GET", f"{path}{joint}per_page={PAGE}&page={number}")
        yield from items
        if len(items) < PAGE:
            return
        number += 1


def call(method: str, path: str, body: Any = None) -> Any:
    """One REST call. Raises GitHubRefused (our mistake or missing rights) or GitHubFailed (GitHub's)."""
    if shutil.which("gh") is None:
        raise InvalidInput(NOT_HERE)
    argv = ["gh", "api", "--method", method, path, *(["--input", "-"] if body is not None else [])]
    done = _run(argv, json.dumps(body) if body is not None else None)
    if done.returncode == 0:
        return _parsed(done.stdout, path)
    status = STATUS.search(done.stderr)
    if status is None:
        if done.returncode == 4 or "gh auth login" in done.stderr or "GH_TOKEN" in done.stderr:
            raise InvalidInput(NOT_SIGNED_IN)
        raise GitHubFailed(f"GitHub could not be asked ({_line(done.stderr)}); try again.")
    raise _refusal(method, path, int(status.group(1)), _message(done.stdout) or _line(done.stderr))


def _refusal(method: str, path: str, status: int, said: str) -> ScriptError:
    doing = f"GitHub answered {status} to {method} {path}"
    if status == 401:
        return GitHubRefused(f"{doing}: its token is not good; run `gh auth login`, or give the step a GH_TOKEN.", 401)
    if status == 403 or (status == 404 and method != "GET"):
        return GitHubRefused(
            f"{doing}: {said}; whoever is signed in needs admin rights on the repository "
            "(in a workflow: the `permissions:` of the job).",
            status,
        )
    if status == 404:
        return GitHubRefused(f"{doing}: there is nothing of that name, or you may not see it.", 404)
    if status == 429 or status >= 500:
        return GitHubFailed(f"{doing}: {said}; try again.")
    return GitHubRefused(f"{doing}: {said}.", status)


def _run(argv: list[str], stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(argv, input=stdin or "", check=False, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise GitHubFailed(f"gh did not answer within {SECONDS} seconds; try again.") from None


def _parsed(text: str, path: str) -> Any:
    if not text.strip():  # 204
        return None
    try:
        return json.loads(text)
    except ValueError:
        raise GitHubFailed(f"gh answered {path} with something that is not JSON; update gh.") from None


def _message(body: str) -> str:
    """GitHub's own reason: its message, and what is wrong with each field where it says so."""
    try:
        answer = json.loads(body)
        details = [each if isinstance(each, str) else each.get("message") or each for each in answer.get("errors", [])]
        return "; ".join(_line(str(part)) for part in [answer.get("message", ""), *details] if part)
    except (ValueError, AttributeError, TypeError):
        return ""


def _line(text: str) -> str:
    return " ".join(text.split())[:300].rstrip(".") or "no reason given"
