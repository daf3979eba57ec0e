"""Role-based access control: what a role allows, where it counts, and which action a management call is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.access import operation
from emulator.rbac import BUILT_IN, Permissions, covers, matches

GROUP = "/subscriptions/s/resourceGroups/g"
WORKSPACE = f"{GROUP}/providers/Microsoft.MachineLearningServices/workspaces/w"
ML = "Microsoft.MachineLearningServices"
segments = st.lists(st.sampled_from(["a", "b", "cd", "Ef"]), min_size=1, max_size=5)
ROLES = {role.name: role.permissions for role in BUILT_IN}


@given(segments, segments)
def test_a_scope_counts_for_itself_and_what_is_below_it_alone(above: list[str], below: list[str]) -> None:
    scope = "/" + "/".join(above)
    assert covers(scope, scope)
    assert covers(scope, f"{scope}/{'/'.join(below)}")
    assert covers("/", scope)
    assert not covers(f"{scope}/{'/'.join(below)}", scope)
    assert not covers(scope, f"{scope}x")


@given(segments, st.data())
def test_a_star_stands_for_anything_and_letters_for_themselves_in_any_case(
    parts: list[str], data: st.DataObject
) -> None:
    action = "/".join(parts)
    assert matches(action.upper(), action.lower())
    assert matches("*", action)
    start, end = sorted((data.draw(st.integers(0, len(action))), data.draw(st.integers(0, len(action)))))
    assert matches(f"{action[:start]}*{action[end:]}", action)
    assert not matches(action, f"{action}/read")


@given(segments)
def test_what_is_taken_away_is_not_allowed(parts: list[str]) -> None:
    action = "/".join(parts)
    assert Permissions(("*",)).allows(action)
    assert not Permissions(("*",), (action,)).allows(action)
    assert not Permissions(("*",)).allows_data(action)


@pytest.mark.parametrize(
    ("role", "action", "allowed"),
    [
        ("Contributor", f"{ML}/workspaces/onlineEndpoints/write", True),
        ("Contributor", "Microsoft.Authorization/roleAssignments/write", False),
        ("Contributor", "Microsoft.Authorization/roleAssignments/read", True),
        ("AzureML Data Scientist", f"{ML}/workspaces/read", True),
        ("AzureML Data Scientist", f"{ML}/workspaces/write", False),
        ("AzureML Data Scientist", f"{ML}/workspaces/computes/write", False),
        ("AzureML Data Scientist", f"{ML}/workspaces/jobs/write", True),
        ("Monitoring Reader", "Microsoft.Insights/metrics/read", True),
        ("Managed Identity Operator", "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action", True),
        ("Managed Identity Operator", "Microsoft.ManagedIdentity/userAssignedIdentities/write", False),
        ("AcrPull", "Microsoft.ContainerRegistry/registries/pull/read", True),
    ],
)
def test_the_built_in_roles(role: str, action: str, allowed: bool) -> None:
    assert ROLES[role].allows(action) is allowed


@pytest.mark.parametrize(
    ("method", "path", "action", "scope"),
    [
        ("GET", WORKSPACE, f"{ML}/workspaces/read", WORKSPACE),
        ("GET", f"{GROUP}/providers/{ML}/workspaces", f"{ML}/workspaces/read", GROUP),
        ("GET", f"{WORKSPACE}/onlineEndpoints", f"{ML}/workspaces/onlineEndpoints/read", WORKSPACE),
        (
            "PUT",
            f"{WORKSPACE}/onlineEndpoints/e",
            f"{ML}/workspaces/onlineEndpoints/write",
            f"{WORKSPACE}/onlineEndpoints/e",
        ),
        (
            "POST",
            f"{WORKSPACE}/onlineEndpoints/e/deployments/d/getLogs",
            f"{ML}/workspaces/onlineEndpoints/deployments/getLogs/action",
            f"{WORKSPACE}/onlineEndpoints/e/deployments/d",
        ),
        (
            "GET",
            f"/subscriptions/s/providers/{ML}/locations/eastus2/usages",
            f"{ML}/locations/usages/read",
            "/subscriptions/s",
        ),
        ("PUT", GROUP, "Microsoft.Resources/subscriptions/resourceGroups/write", GROUP),
        ("GET", "/subscriptions/s", "Microsoft.Resources/subscriptions/read", "/subscriptions/s"),
        (
            "PUT",
            f"{WORKSPACE}/providers/Microsoft.Authorization/roleAssignments/x",
            "Microsoft.Authorization/roleAssignments/write",
            f"{WORKSPACE}/providers/Microsoft.Authorization/roleAssignments/x",
        ),
        (
            "POST",
            "/subscriptions/s/providers/Microsoft.Storage/register",
            "Microsoft.Storage/register/action",
            "/subscriptions/s",
        ),
    ],
)
def test_the_action_of_a_call(method: str, path: str, action: str, scope: str) -> None:
    assert operation(method, path) == (action, scope)
