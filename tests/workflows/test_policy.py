"""The workflow files as they stand, against every check of policy.py. (That each check can fail: test_faults.py.)"""

import pytest

from tests.workflows import policy


@pytest.mark.parametrize("name", sorted(policy.CHECKS))
def test_the_workflows_hold(name: str) -> None:
    assert policy.CHECKS[name](policy.read()) == []


def test_every_workflow_is_run_by_a_test() -> None:
    """A called workflow is run through its caller."""
    here = policy.ROOT / "tests" / "workflows"
    tests = "".join(path.read_text(encoding="utf-8") for path in here.glob("test_*.py"))
    names = set(policy.read().workflows) - set(policy.CALLED)
    assert {name for name in names if f'"{name}"' not in tests} == set()
