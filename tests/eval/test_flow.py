"""The flow as data: its digest changes with what it says and does, and with nothing else."""

import shutil

import pytest

from eval.errors import EvalError
from eval.flow import FLOW, decoding, flow_digest


@pytest.fixture
def flow(tmp_path):
    return shutil.copytree(FLOW, tmp_path / "flow", ignore=shutil.ignore_patterns(".promptflow", "__pycache__"))


def test_the_digest_is_of_what_the_flow_is(flow):
    before = flow_digest(flow)
    assert before == flow_digest()
    for name in ("README.md", ".promptflow/flow.tools.json", "__pycache__/x.py", ".runs/log.txt", "chat/page.py"):
        (flow / name).parent.mkdir(exist_ok=True)
        (flow / name).write_text("something")
        assert flow_digest(flow) == before, name
    said = ("flow.dag.yaml", "integrate_with_promptflow.py", "system_prompt.txt", "few_shot.jsonl")
    for name in (*said, "screen.py", "asking/calling.py", "asking/__init__.py"):
        with (flow / name).open("a") as file:
            file.write(" \n")
        assert (before := flow_digest(flow)) != flow_digest(), name
    (flow / "helper.py").write_text("")
    assert flow_digest(flow) != before


def test_how_it_decodes_is_said_in_one_place(flow):
    assert decoding(flow) == {"temperature": 0, "max_tokens": 48}
    dag = flow / "flow.dag.yaml"
    dag.write_text(dag.read_text().replace("temperature: 0", "temperature: 0.7"))
    assert decoding(flow)["temperature"] == 0.7
    dag.write_text("inputs: {}")
    with pytest.raises(EvalError, match=r"flow\.dag\.yaml.*decoding"):
        decoding(flow)
