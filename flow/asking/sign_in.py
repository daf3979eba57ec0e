"""An Entra token for the endpoint: `az login`, a managed identity or workload identity. There are no keys."""

import functools
import re
import threading
import time
from collections.abc import Callable

from .result import NoAnswer

SCOPE = "https://ml.azure.com/.default"
REFUSED_SECONDS = 5.0  # for so long nobody tries to sign in again after that failed
SIGN_IN_CODE = re.compile(r"AADSTS\d+[^.\n]*")

_lock = threading.Lock()
_refused: list[tuple[float, str]] = []  # when a sign-in failed, and why; at most one


def token() -> str:
    """A token, from azure-identity's cache while it lives. Raises NoAnswer."""
    from azure.core.exceptions import AzureError, ClientAuthenticationError

    with _lock:  # so that many first requests ask Entra once, and wait once when it says no
        if _refused and time.monotonic() - _refused[0][0] < REFUSED_SECONDS:
            raise NoAnswer(_refused[0][1], retry=False)
        try:
            return _provider()()
        except ClientAuthenticationError as error:
            _refused[:] = [(time.monotonic(), _why_refused(str(error)))]
            raise NoAnswer(_refused[0][1], retry=False) from error
        except AzureError as error:  # Entra could not be reached
            raise NoAnswer(f"no Entra token for the endpoint: {_first_line(str(error))}") from error


def _why_refused(text: str) -> str:
    """azure-identity's page about each way to sign in, as half a sentence: Entra's own words where it has some."""
    if code := SIGN_IN_CODE.search(text):
        return f"no Entra token for the endpoint: {code.group()}"
    if "failed to retrieve a token" in text:
        return "nobody is signed in to Azure: run `az login`, or give this process an identity"
    return f"no Entra token for the endpoint: {_first_line(text)}"


def _first_line(text: str) -> str:
    return (text.strip() or "no reason was given").splitlines()[0]


@functools.cache
def _provider() -> Callable[[], str]:
    from azure.identity import DefaultAzureCredential, get_bearer_token_provider

    credential = DefaultAzureCredential(exclude_interactive_browser_credential=True)
    provider: Callable[[], str] = get_bearer_token_provider(credential, SCOPE)
    return provider
