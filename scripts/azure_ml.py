"""The way to Azure ML: one client, quiet, signed in as whoever the environment says we are."""

import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

from rich.console import Console

from scripts import quota, role_errors, sign_in, sign_in_errors
from scripts.errors import AzureFailed
from scripts.settings import Settings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.identity import DefaultAzureCredential

_QUIET = ("azure", "msrest", "urllib3")
SCORING_SCOPE = "https://ml.azure.com/.default"
_region: list[str] = [""]  # of the last client: a refusal over quota names the size, but never where


def credential() -> "DefaultAzureCredential":
    """Workload identity federation (OIDC) in a workflow, `az login` on a desk; no key or secret is ever read."""
    from azure.identity import DefaultAzureCredential

    quiet()
    sign_in.federate()
    return DefaultAzureCredential(exclude_interactive_browser_credential=True)


def client(settings: Settings) -> "MLClient":
    """The workspace's client. Nothing is asked of Azure until the first call."""
    from azure.ai.ml import MLClient

    quiet()
    _region[0] = settings.location
    return MLClient(
        credential(),
        settings.subscription_id,
        settings.resource_group,
        settings.workspace,
        enable_telemetry=False,
        show_progress=False,
    )


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say what is under way (`what`: "Uploading …") instead of the dots, links and blank lines the SDK would print."""
    with Console(file=sys.stdout).status(what), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield


def quiet() -> None:
    """The SDK reports its experimental classes and every retry; our own lines are what people should read."""
    warnings.filterwarnings("ignore", module=r"azure\..*|msrest.*|marshmallow.*|pydash.*|opentelemetry.*")
    for name in _QUIET:
        _only_errors(logging.getLogger(name))
    # After its import, because some of its modules set their own logger to INFO with a handler of its own. The hundreds
    # that set nothing do as the one above them.
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.startswith("azure.") and isinstance(logger, logging.Logger) and logger.level != logging.NOTSET:
            _only_errors(logger)


def _only_errors(logger: logging.Logger) -> None:
    if logger.level != logging.ERROR:  # setting a level goes through all loggers there are
        logger.setLevel(logging.ERROR)


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn what the SDK raises into one sentence that says what we were doing."""
    from azure.ai.ml.exceptions import MlException
    from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

    try:
        yield
    except ClientAuthenticationError as error:
        why = sign_in_errors.explain(str(error)) or f"{first_line(error)}; check the federated credential"
        raise AzureFailed(f"{doing}: Azure did not accept the sign-in: {why}.") from error
    except HttpResponseError as error:
        if said := quota.explain(str(error), _region[0]) or role_errors.explain(str(error)):
            raise AzureFailed(f"{doing}: {said}.") from error
        # An operation that failed after it was accepted carries the 200 of its last poll.
        code = f"answered {error.status_code}" if (error.status_code or 0) >= 400 else "gave up"
        raise AzureFailed(f"{doing}: Azure {code}: {first_line(error)}") from error
    except AzureFailed as error:
        # A job that failed says why in its own words, and for the want of quota or a role those are not ours.
        if said := quota.explain(str(error), _region[0]) or role_errors.explain(str(error)):
            raise AzureFailed(f"{doing}: {said}.") from error
        raise
    except (AzureError, MlException) as error:
        raise AzureFailed(f"{doing}: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """The first sentence of an SDK error, which may be pages long."""
    inner = getattr(error, "error", None)
    text = str(getattr(inner, "message", None) or getattr(error, "message", None) or error).strip()
    return text.splitlines()[0][:400] if text else type(error).__name__
