"""Sign in to Azure as a GitHub job: a fresh OIDC assertion for every command, kept fresh while the command runs.

GitHub's assertion lives for minutes and Azure takes it only that long (AADSTS700024), but a deployment takes a quarter
of an hour and a fine-tune hours. So no step inherits a login from the step before it: each command asks the runner for
its own assertion and leaves it in AZURE_FEDERATED_TOKEN_FILE, where azure-identity, prompt flow and every child process
look for it. Outside GitHub nothing happens here.
"""

import atexit
import os
import tempfile
import threading
from pathlib import Path

import httpx
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from scripts.errors import AzureFailed, InvalidInput

AUDIENCE = "api://AzureADTokenExchange"
REFRESH_SECONDS = 240.0  # an assertion lives five minutes or more
URL, TOKEN, FILE = "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "AZURE_FEDERATED_TOKEN_FILE"
_file: list[Path] = []  # the one assertion of this process


def federate() -> None:
    """Make AZURE_FEDERATED_TOKEN_FILE hold a fresh assertion while this process runs; only in a GitHub job, only once.

    Raises InvalidInput when the job may not ask for one, AzureFailed when GitHub does not give it.
    """
    if os.environ.get("GITHUB_ACTIONS") != "true" or _file or (FILE in os.environ and URL not in os.environ):
        return
    if not (os.environ.get(URL) and os.environ.get(TOKEN)):
        raise InvalidInput(
            "This job may not sign in to Azure: give it `permissions: id-token: write` in its workflow file."
        )
    path = Path(tempfile.mkdtemp(prefix="azure-sign-in-", dir=os.environ.get("RUNNER_TEMP"))) / "assertion.jwt"
    _write(path, assertion())
    _file.append(path)
    os.environ[FILE] = str(path)
    atexit.register(_discard, path)
    threading.Thread(target=_keep_fresh, args=(path,), daemon=True).start()


def assertion() -> str:
    """Ask the runner for an assertion that Azure takes. Raises AzureFailed when it does not give one."""
    try:
        answer = _ask()
        answer.raise_for_status()
        return str(answer.json()["value"])
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        raise AzureFailed(f"GitHub gave no sign-in token (HTTP {status}); run the job again.") from None
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise AzureFailed(f"GitHub gave no sign-in token ({type(error).__name__}); run the job again.") from None


@retry(
    retry=retry_if_exception_type(httpx.TransportError),
    stop=stop_after_attempt(4),
    wait=wait_exponential(max=8),
    reraise=True,
)
def _ask() -> httpx.Response:
    # The request token is a secret: it travels in the header only, and no error message repeats it.
    headers = {"Authorization": f"Bearer {os.environ[TOKEN]}"}
    url = httpx.URL(os.environ[URL])
    return httpx.get(url.copy_merge_params({"audience": AUDIENCE}), headers=headers, timeout=30)


def _keep_fresh(path: Path) -> None:
    pause = threading.Event()  # never set: the thread ends with the process
    while not pause.wait(REFRESH_SECONDS) and path.exists():
        try:
            _write(path, assertion())
        except AzureFailed:
            continue  # the file still holds the one before; the next round may have more luck


def _write(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    beside.replace(path)


def _discard(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_suffix(".new").unlink(missing_ok=True)
    if path.parent.exists() and not any(path.parent.iterdir()):
        path.parent.rmdir()
