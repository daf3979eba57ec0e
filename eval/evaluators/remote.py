"""What the judge and the safety service have in common: where they are, who we are, many requests in flight."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

from eval.errors import EvalError, InfraError

SCOPE = "https://cognitiveservices.azure.com/.default"
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
Key = TypeVar("Key")
Value = TypeVar("Value")


def address(variable: str, what: str) -> str:
    """The service's address from the environment. Raises EvalError unless it is HTTPS, or HTTP on this machine."""
    found = os.environ.get(variable, "").strip().rstrip("/")
    if not found:
        raise EvalError(f"{variable} is not set: it says where {what} is (docs/evaluators.md).")
    parts = urlsplit(found)
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)):
        raise EvalError(f"{variable} is {found!r}: {what} needs an https address, or http on this machine.")
    return found


@cache
def credential() -> Any:
    from azure.identity import DefaultAzureCredential

    logging.getLogger("azure.identity").setLevel(logging.ERROR)  # it warns at length of what we raise in a sentence
    return DefaultAzureCredential(exclude_interactive_browser_credential=True)


def token() -> str:
    """An Entra token for Azure AI services, from azure-identity's cache while it lives. Raises InfraError."""
    from azure.core.exceptions import ClientAuthenticationError

    try:
        return str(credential().get_token(SCOPE).token)
    except ClientAuthenticationError as error:
        raise InfraError(f"No Entra token for Azure AI services: {str(error).splitlines()[0]}") from error


def all_at_once(
    ask: Callable[[Key], Value], keys: Sequence[Key], workers: int, progress: Callable[[int, int], None]
) -> Mapping[Key, Value]:
    """`ask` for every key, `workers` at a time; the first failure is raised and nothing more is started."""
    answers: dict[Key, Value] = {}
    pool = ThreadPoolExecutor(workers, thread_name_prefix="evaluator")
    try:
        futures = {pool.submit(ask, key): key for key in keys}
        for future in as_completed(futures):
            answers[futures[future]] = future.result()
            progress(len(answers), len(keys))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return answers
