"""Which action a request for a blob is; what comes of it is in tests/scripts/test_missing_roles.py."""

from __future__ import annotations

import pytest

from emulator.blob_access import operation
from emulator.rbac import BLOBS, BUILT_IN

ROLES = {role.name: role.permissions for role in BUILT_IN}
BOTH, WRITERS = {"Storage Blob Data Reader", "Storage Blob Data Contributor"}, {"Storage Blob Data Contributor"}


@pytest.mark.parametrize(
    ("method", "path", "query", "action", "data", "holders"),
    [
        ("GET", "/box/a/b.json", {}, "containers/blobs/read", True, BOTH),
        ("HEAD", "/box/a", {}, "containers/blobs/read", True, BOTH),
        ("GET", "/box", {"restype": "container", "comp": "list"}, "containers/blobs/read", True, BOTH),
        ("PUT", "/box/a", {"comp": "lease"}, "containers/blobs/write", True, WRITERS),
        ("PUT", "/box/a", {}, "containers/blobs/write", True, WRITERS),
        ("DELETE", "/box/a", {}, "containers/blobs/delete", True, WRITERS),
        ("PUT", "/box", {"restype": "container"}, "containers/write", False, WRITERS),
        ("GET", "/", {"comp": "list"}, "containers/read", False, BOTH),
        ("POST", "/", {"comp": "userdelegationkey"}, "generateUserDelegationKey/action", False, BOTH),
    ],
)
def test_the_action_and_who_of_the_two_roles_may_do_it(
    method: str, path: str, query: dict[str, str], action: str, data: bool, holders: set[str]
) -> None:
    assert operation(method, path, query) == (f"{BLOBS}/{action}", data)
    allowed = {name for name in BOTH if (ROLES[name].allows_data if data else ROLES[name].allows)(f"{BLOBS}/{action}")}
    assert allowed == holders
