"""Where a prompt flow connection says the endpoint is; nothing without one, and then the environment says it."""

from typing import Any


def place(connection: Any) -> dict[str, str]:
    """Of a custom connection with `scoring_uri`, perhaps `deployment`, and the secret `key` of an endpoint with key
    sign-in. Raises ValueError."""
    if connection is None:
        return {}
    told = {**connection.configs, **connection.secrets}
    if not told.get("scoring_uri"):
        raise ValueError("The connection has no scoring_uri: give it one under `configs`.")
    return {"uri": told["scoring_uri"], "deployment": told.get("deployment", ""), "key": told.get("key", "")}
