"""Where a process runs, and people's words as records, tags and sentences can hold them."""

import os
import socket

TAG_LENGTH = 200  # Azure takes 256


def runner() -> str:
    """Where this process runs: the workflow run's address, elsewhere host:pid."""
    return run_url() or f"{socket.gethostname()}:{os.getpid()}"


def run_url() -> str:
    """The address of this workflow run; "" outside of one."""
    parts = [os.environ.get(name, "") for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")]
    return "{}/{}/actions/runs/{}".format(*parts) if all(parts) else ""


def whole(text: str) -> str:
    """A person's text as it can be kept in a record: bytes that are no text are replaced, nothing is cut."""
    return text.encode("utf-8", "replace").decode("utf-8")


def one_line(text: str) -> str:
    """A person's text for a tag, an output or a sentence: one line of printable characters, cut."""
    line = " ".join("".join(c if c.isprintable() else " " for c in whole(text)).split())
    return line if len(line) <= TAG_LENGTH else line[: TAG_LENGTH - 1] + "…"
