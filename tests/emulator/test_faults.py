"""The fault plan: what it may say, which calls it means, whose turn it is, and how a running emulator follows it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import EmulatorError
from emulator.fault_matching import Seen, Turn, matches, seen
from emulator.fault_plan import EXAMPLE, Faults, load
from emulator.faults import AnyFault, Fault, Lost, Plan, Refuse, Scoring, Slow

ROOT = Path(__file__).parents[2]
KINDS = {get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(get_args(AnyFault)[0])}
WS = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
PHI, GREEN = f"{WS}/onlineEndpoints/Phi", f"{WS}/onlineEndpoints/Phi/deployments/green"
ARM = "management.azure.com"


def write(path: Path, *faults: dict[str, Any], **plan: Any) -> Path:
    path.write_text(yaml.safe_dump({"faults": list(faults), **plan}))
    return path


def lost(**says: Any) -> Lost:
    return Lost(**{"kind": "lost", "name": "x", **says})


def lines(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "faults.jsonl").read_text().splitlines()]


def test_the_example_shows_every_kind_and_every_key() -> None:
    plan = load(ROOT / EXAMPLE)
    assert {fault.kind for fault in plan.faults} == KINDS
    text = (ROOT / EXAMPLE).read_text()
    keys = {key for fault in plan.faults for key in type(fault).model_fields}
    assert [key for key in sorted(keys) if key not in text] == []


def test_the_page_about_the_emulator_names_every_kind() -> None:
    page = (ROOT / "docs/emulator.md").read_text()
    assert [kind for kind in sorted(KINDS) if f"| `{kind}` |" not in page] == []
    assert "emulator.md" in (ROOT / "docs/architecture.md").read_text()


SLOW = {"kind": "slow", "name": "a", "seconds": 1}


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (None, "mapping with the key faults"),
        ({"fault": []}, "at faults: it is missing"),
        ({"faults": [], "sed": 1}, "at sed: no such key"),
        ({"faults": [{**SLOW, "second": 1}]}, r"at faults\[0\].second: no such key"),
        ({"faults": [SLOW, SLOW]}, "two faults are named a"),
        ({"faults": [{"name": "a", "seconds": 1}]}, r"at faults\[0\]: it has no kind"),
        ({"faults": [{**SLOW, "kind": "sluggish"}]}, "kind sluggish is none of"),
        ({"faults": [{**SLOW, "seconds": float("nan")}]}, r"faults\[0\].seconds"),
        ({"faults": [{**SLOW, "seconds": True}]}, r"faults\[0\].seconds"),
        ({"faults": [{**SLOW, "times": 0}]}, r"faults\[0\].times"),
        ({"faults": [{**SLOW, "share": 0}]}, r"faults\[0\].share"),
        ({"faults": [{"kind": "stale", "name": "a"}]}, "exactly one of seconds, reads"),
        ({"faults": [{"kind": "stale", "name": "a", "seconds": 1, "reads": 1}]}, "not seconds and reads"),
        ({"faults": [{"kind": "stale", "name": "a", "reads": 1, "deployment": "green"}]}, "deployment: no such key"),
        ({"faults": [{"kind": "drift", "name": "a", "traffic": {"blue": 90}}]}, "sums to 90"),
        ({"faults": [{"kind": "lost", "name": "a", "path": "("}]}, r"\.path: '\(' is not a regular expression"),
        ({"faults": [{"kind": "status", "name": "a", "status": 200}]}, "200 is none of"),
        ({"faults": [{"kind": "scoring", "name": "a", "hang": True, "status": 503}]}, "exactly one of"),
        ({"faults": [{"kind": "scoring", "name": "a", "model_status": 200}]}, "model_status"),
    ],
)
def test_a_wrong_plan_is_told_in_one_sentence(tmp_path: Path, plan: Any, says: str) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(plan))
    with pytest.raises(EmulatorError, match=says) as wrong:
        load(file)
    assert str(file) in str(wrong.value)
    assert EXAMPLE in str(wrong.value)
    assert "\n" not in str(wrong.value)


@pytest.mark.parametrize("content", [None, b"faults: [", b"\xff\xfe\x00"])
def test_a_file_that_is_no_plan_at_all(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "plan.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(EmulatorError, match=str(file)):
        load(file)


@pytest.mark.parametrize(
    ("fault", "call", "meant"),
    [
        (lost(), seen("GET", ARM, PHI), True),
        (lost(), seen("GET", "login.microsoftonline.com", "/t/token"), False),
        (lost(host=r"login\..*"), seen("POST", "login.microsoftonline.com", "/t/token"), True),
        (lost(method="PUT"), seen("GET", ARM, PHI), False),
        (lost(endpoint="phi"), seen("PUT", ARM, PHI), True),
        (lost(endpoint="phi"), seen("PUT", ARM, GREEN), True),
        (lost(endpoint="ph"), seen("PUT", ARM, PHI), False),
        (lost(endpoint="p*"), seen("POST", ARM, f"{PHI}/listKeys"), True),
        (lost(endpoint="*"), seen("PUT", ARM, f"{WS}/jobs/j"), False),
        (lost(deployment="GREEN"), seen("POST", ARM, f"{GREEN}/getLogs"), True),
        (lost(deployment="green"), seen("PUT", ARM, PHI), False),
        (lost(resource="endpoint"), seen("PUT", ARM, GREEN), False),
        (lost(resource="endpoint"), seen("GET", ARM, f"{PHI}/deployments"), True),
        (lost(resource="deployment"), seen("PUT", ARM, GREEN), True),
        (lost(resource="endpoint"), seen("PUT", ARM, f"{WS}/jobs/j"), False),
        (lost(path="ENDPOINTS/[^/]+$"), seen("PUT", ARM, PHI), True),
        (lost(path="endpoints/[^/]+$"), seen("PUT", ARM, GREEN), False),
        (Slow(**SLOW, operation="endpoint-update"), seen("PUT", ARM, PHI, "endpoint-update"), True),
        (Slow(**SLOW, operation="endpoint-update"), seen("PUT", ARM, PHI, "endpoint-create"), False),
        (Slow(**SLOW), seen("PUT", ARM, PHI, "endpoint-create"), True),
    ],
)
def test_which_calls_a_fault_means(fault: Fault, call: Seen, meant: bool) -> None:
    assert matches(fault, call) is meant


CALLS = st.lists(st.sampled_from([seen("PUT", ARM, PHI), seen("GET", ARM, PHI)]), max_size=60)


@given(CALLS, st.integers(0, 10), st.none() | st.integers(1, 10))
def test_the_matching_calls_after_the_first_are_struck_so_many_times(
    calls: list[Seen], after: int, times: int | None
) -> None:
    turn = Turn(lost(method="PUT", after=after, times=times), seed=0, since=0)
    struck = []
    for call in calls:
        struck.append(turn.comes(call, 1))
        turn.struck += struck[-1]
    fates = [fate for call, fate in zip(calls, struck, strict=True) if call.method == "PUT"]
    limit = len(fates) if times is None else times
    assert fates == [after <= number < after + limit for number in range(len(fates))]
    assert not any(fate for call, fate in zip(calls, struck, strict=True) if call.method != "PUT")


@given(st.integers(), st.floats(0.01, 1), st.integers(0, 5), st.none() | st.integers(1, 5), CALLS)
def test_a_share_is_drawn_by_the_seed_whatever_comes_between(
    seed: int, share: float, after: int, times: int | None, calls: list[Seen]
) -> None:
    def fates(asked: list[Seen]) -> list[bool]:
        turn, found = Turn(lost(method="PUT", share=share, after=after, times=times), seed, since=0), []
        for call in asked:
            found.append(turn.comes(call, 1))
            turn.struck += found[-1]
        return [fate for call, fate in zip(asked, found, strict=True) if call.method == "PUT"]

    alone = fates([call for call in calls if call.method == "PUT"])
    assert fates(calls) == alone
    assert not any(alone[:after])
    assert times is None or sum(alone) <= times
    if share == 1 and times is None:
        assert all(alone[after:])


def test_a_share_is_about_what_it_says() -> None:
    turn, call = Turn(lost(share=0.3), seed=1, since=0), seen("GET", ARM, PHI)
    struck = sum(turn.comes(call, 1) for _ in range(5000))
    assert abs(struck - 1500) < 5 * (5000 * 0.3 * 0.7) ** 0.5


def test_a_fault_that_sleeps_counts_nothing() -> None:
    turn, call = Turn(lost(after_seconds=10, after=1), seed=0, since=100), seen("GET", ARM, PHI)
    assert [turn.comes(call, now) for now in (101, 105, 109.9, 110, 111)] == [False, False, False, False, True]


def test_the_first_of_two_strikes_and_the_second_keeps_its_times(tmp_path: Path) -> None:
    first, second = ({"kind": "status", "name": name, "status": 503, "times": 1} for name in ("first", "second"))
    faults, call = Faults(write(tmp_path / "plan", first, second), tmp_path), seen("GET", ARM, PHI)
    struck = [faults.strike(Refuse, call) for _ in range(3)]
    assert [fault and fault.name for fault in struck] == ["first", "second", None]
    assert faults.strike(Scoring, call) is None
    assert [(line["kind"], line["name"], line["request"]) for line in lines(tmp_path)] == [
        ("status", name, f"GET {ARM}{PHI}") for name in ("first", "second")
    ]


def test_strikes_are_counted_right_by_many_at_once(tmp_path: Path) -> None:
    plan = write(tmp_path / "plan", {"kind": "lost", "name": "a", "after": 50, "times": 30})
    faults = Faults(plan, tmp_path)
    with ThreadPoolExecutor(8) as pool:
        struck = list(pool.map(lambda _: faults.strike(Lost, seen("GET", ARM, PHI)), range(200)))
    assert sum(fault is not None for fault in struck) == len(lines(tmp_path)) == 30


def test_a_changed_plan_is_followed_and_what_stayed_keeps_its_count(tmp_path: Path) -> None:
    kept = {"kind": "lost", "name": "kept", "method": "GET", "times": 1}
    changed = {"kind": "lost", "name": "changed", "method": "PUT", "times": 1}
    plan = write(tmp_path / "plan", kept, changed)
    faults = Faults(plan, tmp_path)

    def strikes() -> list[bool]:
        return [faults.strike(Lost, seen(method, ARM, PHI)) is not None for method in ("GET", "PUT")]

    assert (strikes(), strikes()) == ([True, True], [False, False])
    before = load(plan).faults
    write(plan, kept, {**changed, "after": 1})
    assert (strikes(), strikes(), strikes()) == ([False, False], [False, True], [False, False])
    assert faults.holds(before[0])
    assert not faults.holds(before[1])
    write(plan)
    assert strikes() == [False, False]
    write(plan, kept, changed)
    assert strikes() == [True, True], "what was gone begins anew"
    write(plan, kept, changed, seed=2)
    assert strikes() == [True, True], "and so does all under another seed"


def test_a_plan_that_becomes_nonsense_stays_as_it_was_and_says_so(tmp_path: Path) -> None:
    plan = write(tmp_path / "plan", {"kind": "lost", "name": "a"})
    faults, call = Faults(plan, tmp_path), seen("GET", ARM, PHI)
    plan.write_text("")
    assert [faults.strike(Lost, call) is not None for _ in range(2)] == [True, True]
    told, *struck = lines(tmp_path)
    assert (told["kind"], str(plan) in told["error"], len(struck)) == ("plan", True, 2)
    plan.unlink()
    assert faults.strike(Lost, call) is not None
    write(plan)
    assert faults.strike(Lost, call) is None


def test_no_secret_reaches_the_log(tmp_path: Path) -> None:
    faults = Faults(write(tmp_path / "plan", {"kind": "lost", "name": "a"}), tmp_path)
    faults.strike(Lost, seen("GET", ARM, f"{PHI}/eyJhbGciOiJSUzI1NiJ9.eyJhIjoxfQ.c2ln?sig=abc"))
    assert "eyJ" not in json.dumps(lines(tmp_path))
    assert "sig=abc" not in json.dumps(lines(tmp_path))


def test_a_plan_is_data_and_never_changes() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Plan(faults=()).seed = 1  # type: ignore[misc]
