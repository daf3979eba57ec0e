"""The store against a plain dictionary, and what it promises about ids, copies and threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import ArmError
from emulator.store import Store, public

SEGMENT = st.text("abAB_%.-", min_size=1, max_size=3)
ID = st.lists(SEGMENT, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
STEP = st.one_of(
    st.tuples(st.just("put"), ID, st.integers()),
    st.tuples(st.just("delete"), ID, st.none()),
)


def folded(resource_id: str) -> str:
    return resource_id.lower()


@given(st.lists(STEP, max_size=25), ID)
def test_store_behaves_like_a_dictionary_of_lower_case_paths(steps: list[tuple[str, str, Any]], probe: str) -> None:
    store, model = Store(":memory:"), {}
    for kind, name, value in steps:
        if kind == "put":
            store.put(name, {"id": name, "value": value})
            model[folded(name)] = {"id": name, "value": value}
        else:
            store.delete(name)
            gone = [key for key in model if key == folded(name) or key.startswith(folded(name) + "/")]
            for key in gone:
                del model[key]
    assert store.get(probe.upper()) == model.get(folded(probe))
    below = [value for key, value in model.items() if key.rpartition("/")[0] == folded(probe)]
    found = store.children(probe)
    assert sorted(map(str, found)) == sorted(map(str, below))
    assert len(store.find(".*")) == len(model)


def test_what_comes_out_is_a_copy() -> None:
    store = Store(":memory:")
    store.put("/a", {"tags": {}})["tags"]["x"] = 1
    found = store.get("/a")
    assert found == {"tags": {}}
    found["tags"]["x"] = 1
    assert store.get("/A") == {"tags": {}}


def test_update_is_atomic_across_threads() -> None:
    store = Store(":memory:")
    store.put("/counter", {"n": 0})

    def add(_: int) -> None:
        store.update("/Counter", lambda found: found.update(n=found["n"] + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(200)))
    assert store.need("/counter")["n"] == 200


def test_a_failed_update_changes_nothing() -> None:
    store = Store(":memory:")
    store.put("/a", {"n": 1})

    def fail(found: dict[str, Any]) -> None:
        found["n"] = 2
        raise ArmError(400, "Bad", "no")

    with pytest.raises(ArmError):
        store.update("/a", fail)
    assert store.get("/a") == {"n": 1}


def test_need_names_what_is_missing() -> None:
    with pytest.raises(ArmError) as raised:
        Store(":memory:").need("/subscriptions/s/resourceGroups/g/providers/P/workspaces/w", "Workspace")
    assert (raised.value.status, raised.value.code) == (404, "ResourceNotFound")
    assert "'w'" in raised.value.message


def test_state_survives_a_restart_and_private_keys_are_not_sent(tmp_path: Path) -> None:
    first = Store(tmp_path / "state.db")
    first.put("/a", {"name": "a", "_key": "hidden"})
    first.close()
    found = Store(tmp_path / "state.db").need("/a")
    assert found["_key"] == "hidden"
    assert public(found) == {"name": "a"}
