"""Resource providers: nothing may be asked of one that the subscription has not registered.

A fresh subscription has registered none but ARM's own. Whoever asks for something of another gets the 409 that ARM
gives, in its words (the SDK knows it by them, and registers the provider by itself if it may). Registering takes
EMULATOR_REGISTERING_SECONDS (default: as long as any operation). EMULATOR_PROVIDERS=registered is a subscription that
somebody has used before: every provider is registered.
"""

from __future__ import annotations

import os
import re
import time

from starlette.responses import JSONResponse, Response

from emulator.errors import ArmError
from emulator.routing import ARM, Call, route
from emulator.subscriptions import SUBSCRIPTION

USED, SECONDS = "EMULATOR_PROVIDERS", "EMULATOR_REGISTERING_SECONDS"
ALWAYS = ("microsoft.authorization", "microsoft.resources")
PROVIDER = SUBSCRIPTION + r"/providers/(?P<namespace>[A-Za-z]+\.[A-Za-z]+)"
# What is asked of a provider: the last one in the address counts, and what is asked about it does not.
ASKED = re.compile(r"/subscriptions/[^/]+(?:/.*)?/providers/(?P<namespace>[^/]+)/(?!register/?$).+", re.IGNORECASE)


class Unregistered(ArmError):
    """ARM's refusal; its detail names the provider, as its message does."""

    def __init__(self, namespace: str, state: str) -> None:
        begins = (
            "is not registered"
            if state == "NotRegistered"
            else f"registration is in '{state}' state. The subscription must be registered"
        )
        guide = "See https://aka.ms/rps-not-found for how to register subscriptions."
        super().__init__(
            409, "MissingSubscriptionRegistration", f"The subscription {begins} to use namespace '{namespace}'. {guide}"
        )
        self.namespace = namespace

    def body(self) -> dict[str, object]:
        detail = {"code": self.code, "target": self.namespace, "message": self.message}
        return {"error": {"code": self.code, "message": self.message, "details": [detail]}}


def state(call: Call, namespace: str) -> str:
    """Registered, Registering, or NotRegistered."""
    if namespace.lower() in ALWAYS or os.environ.get(USED) == "registered":
        return "Registered"
    found = call.emulator.store.get(_place(call, namespace))
    if found is None:
        return "NotRegistered"
    return "Registered" if time.time() >= found.get("_from", 0) else "Registering"


def need(call: Call, namespace: str) -> None:
    """ArmError 409 unless the provider is registered."""
    if (now := state(call, namespace)) != "Registered":
        raise Unregistered(namespace, now)


def check(call: Call) -> None:
    """ArmError 409 for a management call to a provider that is not registered."""
    if asked := ASKED.fullmatch(call.path):
        need(call, asked["namespace"])


def _place(call: Call, namespace: str) -> str:
    return f"/subscriptions/{call.emulator.settings.subscription_id}/providers/{namespace}/registered"


@route("GET", ARM, PROVIDER)
def get_provider(call: Call) -> Response:
    name, settings = call.args["namespace"], call.emulator.settings
    kinds = [{"resourceType": "workspaces", "locations": [settings.region], "apiVersions": []}]
    shown = {"id": f"/subscriptions/{settings.subscription_id}/providers/{name}", "namespace": name}
    return JSONResponse({**shown, "registrationState": state(call, name), "resourceTypes": kinds})


@route("POST", ARM, PROVIDER + r"/register")
def register(call: Call) -> Response:
    """Starts it; registering again changes nothing."""
    place = _place(call, call.args["namespace"])
    if call.emulator.store.get(place) is None:
        seconds = float(os.environ.get(SECONDS) or call.emulator.settings.operation_seconds)
        call.emulator.store.put(place, {"id": place, "_from": time.time() + seconds})
    return get_provider(call)
