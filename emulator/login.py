"""Entra ID: exchanging a federated assertion (GitHub's OIDC token) for an access token, and a managed identity's token.

As strict as the real one about issuer, subject, audience, signature and expiry, with its AADSTS codes, because those
are the mistakes that a team makes when it sets federation up.
"""

from __future__ import annotations

import datetime as dt
import hmac
import time
import urllib.parse
import uuid
from typing import Any

import jwt
from starlette.responses import JSONResponse, Response

from emulator.identity import EXCHANGE_AUDIENCE, GITHUB_ISSUER
from emulator.routing import GITHUB, LOGIN, LOOPBACK, Call, route

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LIFETIME = 3599
IDENTITIES = (
    r"/subscriptions/[^/]+/resourcegroups/[^/]+/providers/microsoft\.managedidentity/userassignedidentities/[^/]+"
)


class Refusal(Exception):
    """An answer of the token endpoint that is not a token."""

    def __init__(self, error: str, code: int, message: str, status: int = 401) -> None:
        super().__init__(message)
        self.error, self.code, self.message, self.status = error, code, message, status

    def response(self) -> Response:
        trace, correlation, now = str(uuid.uuid4()), str(uuid.uuid4()), dt.datetime.now(dt.UTC)
        stamp = now.strftime("%Y-%m-%d %H:%M:%SZ")
        tail = f" Trace ID: {trace} Correlation ID: {correlation} Timestamp: {stamp}"
        body = {
            "error": self.error,
            "error_description": f"AADSTS{self.code}: {self.message}{tail}",
            "error_codes": [self.code],
            "timestamp": stamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://login.microsoftonline.com/error?code={self.code}",
        }
        return JSONResponse(body, self.status)


def federated_credentials(call: Call, client_id: str) -> list[dict[str, Any]]:
    """What may log in as `client_id`: the emulator's own credential or a managed identity's; Refusal if unknown."""
    settings, store = call.emulator.settings, call.emulator.store
    if client_id == settings.client_id:
        return [{"issuer": GITHUB_ISSUER, "subject": settings.federated_subject, "audiences": [EXCHANGE_AUDIENCE]}]
    for identity in store.find(IDENTITIES):
        if identity["properties"]["clientId"] == client_id:
            return [child["properties"] for child in store.children(f"{identity['id']}/federatedIdentityCredentials")]
    message = f"Application with identifier '{client_id}' was not found in the directory '{settings.tenant_id}'."
    raise Refusal("unauthorized_client", 700016, message, 400)


def check_assertion(call: Call, client_id: str, assertion: str) -> None:
    """Refusal unless the assertion is signed, alive, and matches one federated credential of the client exactly."""
    credentials = federated_credentials(call, client_id)
    try:
        claims = call.emulator.tokens.read_assertion(assertion)
    except jwt.ExpiredSignatureError as error:
        message = "Client assertion is not within its valid time range. Get a new OIDC token and log in again."
        raise Refusal("invalid_client", 700024, message) from error
    except jwt.PyJWTError as error:
        raise Refusal("invalid_client", 700027, f"Client assertion failed signature validation: {error}.") from error
    if not credentials:
        message = f"The client '{client_id}' has no configured federated identity credentials."
        raise Refusal("invalid_client", 70025, message)
    checks = (
        ("issuer", 700211, claims["iss"], lambda c: c["issuer"] == claims["iss"]),
        ("subject", 700213, claims["sub"], lambda c: c["subject"] == claims["sub"]),
        ("audience", 700212, claims["aud"], lambda c: claims["aud"] in c["audiences"]),
    )
    for what, code, value, matches in checks:
        credentials = [credential for credential in credentials if matches(credential)]
        if not credentials:
            message = (
                f"No matching federated identity record found for presented assertion {what} '{value}'. "
                "Please check your federated identity credential Subject, Audience and Issuer against it."
            )
            raise Refusal("invalid_client", code, message)


@route("POST", LOGIN, r"/(?P<tenant>[^/]+)/oauth2/v2\.0/token", audience=None)
def token(call: Call) -> Response:
    form = {name: values[0] for name, values in urllib.parse.parse_qs(call.body.decode("latin-1")).items()}
    try:
        if call.args["tenant"].lower() != call.emulator.settings.tenant_id:
            raise Refusal("invalid_request", 90002, f"Tenant '{call.args['tenant']}' not found.", 400)
        if form.get("grant_type") != "client_credentials":
            message = f"The app requested an unsupported grant type '{form.get('grant_type')}'."
            raise Refusal("unsupported_grant_type", 70003, message, 400)
        scope = form.get("scope", "").split(" ")[0]
        if not scope.endswith("/.default"):
            raise Refusal("invalid_scope", 1002012, f"The provided value for scope {scope} is not valid.", 400)
        if form.get("client_assertion_type") != JWT_BEARER or not form.get("client_assertion"):
            message = (
                "The request body must contain 'client_assertion': only workload identity federation is set up here."
            )
            raise Refusal("invalid_client", 7000218, message)
        check_assertion(call, form.get("client_id", ""), form["client_assertion"])
    except Refusal as refusal:
        return refusal.response()
    minted = call.emulator.tokens.mint(scope, form["client_id"], LIFETIME)
    body = {"token_type": "Bearer", "expires_in": LIFETIME, "ext_expires_in": LIFETIME, "access_token": minted}
    return JSONResponse(body)


@route("GET", LOOPBACK, r"/msi/token", audience=None)
def managed_identity(call: Call) -> Response:
    """The token endpoint of a compute node (MSI_ENDPOINT); the secret header keeps other users of the machine out."""
    offered = call.headers.get("secret") or call.headers.get("x-identity-header") or ""
    if not hmac.compare_digest(offered, call.emulator.settings.identity_secret):
        return JSONResponse({"error": "unauthorized", "error_description": "The secret header is wrong."}, 401)
    resource = call.query.get("resource", "").removesuffix("/.default")
    client = call.query.get("clientid") or call.query.get("client_id") or call.emulator.settings.client_id
    body = {
        "access_token": call.emulator.tokens.mint(resource, client, LIFETIME),
        "expires_on": str(int(time.time()) + LIFETIME),
        "resource": resource,
        "token_type": "Bearer",
    }
    return JSONResponse(body)


@route("GET", GITHUB, r"/idtoken", audience=None)
def github_assertion(call: Call) -> Response:
    """What a runner's ACTIONS_ID_TOKEN_REQUEST_URL answers: an assertion of five minutes for the job that asks.

    GitHub knows the job; here its `subject` (and for a test `seconds`, which may be negative) is part of the address.
    """
    bearer = call.headers.get("authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(bearer, call.emulator.settings.identity_secret):
        return JSONResponse({"message": "The request token is wrong."}, 401)
    subject = call.query.get("subject") or call.emulator.settings.federated_subject
    seconds = float(call.query.get("seconds") or 300)
    audience = call.query.get("audience") or GITHUB_ISSUER
    value = call.emulator.tokens.assertion(subject, audience=audience, seconds=seconds)
    return JSONResponse({"count": len(value), "value": value})


@route("GET", LOGIN, r"/(?P<tenant>[^/]+)/v2\.0/\.well-known/openid-configuration", audience=None)
def openid_configuration(call: Call) -> Response:
    base = f"https://login.microsoftonline.com/{call.args['tenant']}"
    body = {
        "issuer": f"{base}/v2.0",
        "token_endpoint": f"{base}/oauth2/v2.0/token",
        "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
        "jwks_uri": f"{base}/discovery/v2.0/keys",
    }
    return JSONResponse(body)


@route("GET", LOGIN, r"/(?P<tenant>[^/]+)/discovery/v2\.0/keys", audience=None)
def keys(call: Call) -> Response:
    return JSONResponse({"keys": [call.emulator.tokens.public_jwk()]})


@route("GET", LOGIN, r"/common/discovery/instance", audience=None)
def instance_discovery(call: Call) -> Response:
    host, tenant = "login.microsoftonline.com", call.emulator.settings.tenant_id
    body = {
        "tenant_discovery_endpoint": f"https://{host}/{tenant}/v2.0/.well-known/openid-configuration",
        "api-version": "1.1",
        "metadata": [{"preferred_network": host, "preferred_cache": "login.windows.net", "aliases": [host]}],
    }
    return JSONResponse(body)
