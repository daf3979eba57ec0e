"""Tokens: the throw-away stand-ins for Entra ID (access tokens) and for GitHub's OIDC issuer (federated assertions).

Both sign RS256 with keys made for this home, and both are verified with signature, audience and expiry, so a wrong
login fails here as it would in Azure. Nothing outside this machine would accept either.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from emulator.errors import ArmError

GITHUB_ISSUER = "https://token.actions.githubusercontent.com"
EXCHANGE_AUDIENCE = "api://AzureADTokenExchange"
AUDIENCES = {
    "arm": ("https://management.azure.com", "https://management.core.windows.net"),
    "ml": ("https://ml.azure.com",),
    "storage": ("https://storage.azure.com",),
    "metrics": ("https://metrics.monitor.azure.com",),
    "logs": ("https://api.loganalytics.io", "https://api.loganalytics.azure.com"),
}


def _key(path: Path) -> rsa.RSAPrivateKey:
    if path.exists():
        loaded = serialization.load_pem_private_key(path.read_bytes(), None)
        assert isinstance(loaded, rsa.RSAPrivateKey)  # noqa: S101 (we wrote it)
        return loaded
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    beside = path.with_suffix(".new")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(pem)
    beside.replace(path)
    return key


def object_id(client_id: str) -> str:
    """The principal behind a client id; derived, so that it is the same everywhere."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"principal:{client_id.lower()}"))


class Tokens:
    def __init__(self, home: Path, tenant_id: str) -> None:
        self._tenant = tenant_id
        self._entra, self._github = _key(home / "entra.key"), _key(home / "github-oidc.key")

    def mint(self, audience: str, client_id: str, seconds: float = 3600) -> str:
        """An access token for `audience` (a resource or a scope ending in /.default) that lives `seconds`."""
        now, principal = int(time.time()), object_id(client_id)
        claims = {
            "aud": audience.removesuffix("/.default").rstrip("/"),
            "iss": f"https://sts.windows.net/{self._tenant}/",
            "iat": now,
            "nbf": now - 60,
            "exp": int(now + seconds),
            "appid": client_id,
            "oid": principal,
            "sub": principal,
            "tid": self._tenant,
            "ver": "1.0",
        }
        return jwt.encode(claims, self._entra, "RS256", headers={"kid": "local-entra"})

    def verify(self, bearer: str, audiences: Collection[str]) -> dict[str, Any]:
        """Claims of an access token (with or without "Bearer "); ArmError 401 says what is wrong with it."""
        token = bearer.removeprefix("Bearer ").strip()
        if not token:
            raise ArmError(401, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
        try:
            claims: dict[str, Any] = jwt.decode(
                token, self._entra.public_key(), ["RS256"], options={"verify_aud": False, "require": ["exp", "aud"]}
            )
        except jwt.ExpiredSignatureError as error:
            raise ArmError(
                401, "ExpiredAuthenticationToken", "The access token expiry UTC time is in the past."
            ) from error
        except jwt.PyJWTError as error:
            raise ArmError(401, "InvalidAuthenticationToken", f"The access token is invalid: {error}.") from error
        if str(claims["aud"]).rstrip("/") not in {audience.rstrip("/") for audience in audiences}:
            message = (
                f"The access token has been obtained for wrong audience '{claims['aud']}'; need {sorted(audiences)}."
            )
            raise ArmError(401, "InvalidAuthenticationTokenAudience", message)
        return claims

    def public_jwk(self) -> dict[str, Any]:
        jwk = jwt.algorithms.RSAAlgorithm.to_jwk(self._entra.public_key(), as_dict=True)
        return {**jwk, "kid": "local-entra", "use": "sig"}

    def assertion(
        self, subject: str, *, audience: str = EXCHANGE_AUDIENCE, issuer: str = GITHUB_ISSUER, seconds: float = 86400
    ) -> str:
        """What GitHub would put in ACTIONS_ID_TOKEN for a workflow: an OIDC token for `subject`. Negative = expired."""
        now = int(time.time())
        claims = {"iss": issuer, "sub": subject, "aud": audience, "iat": now - 60, "exp": int(now + seconds)}
        return jwt.encode({**claims, "jti": str(uuid.uuid4())}, self._github, "RS256", headers={"kid": "local-github"})

    def read_assertion(self, token: str) -> dict[str, Any]:
        """Claims of an assertion whose signature and expiry hold, else jwt.PyJWTError. Audience, subject: unchecked."""
        return jwt.decode(
            token,
            self._github.public_key(),
            ["RS256"],
            options={"verify_aud": False, "verify_iat": False, "require": ["exp", "sub", "iss", "aud"]},
        )
