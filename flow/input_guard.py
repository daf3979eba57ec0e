"""Node: refuses a prompt that must not be asked. The logic is asking/guards.py."""

from dataclasses import asdict

from asking.guards import refused_prompt
from promptflow.core import tool


@tool
def input_guard(messages: list) -> dict:
    """The flow's result when the prompt is refused, else {}."""
    refused = refused_prompt(messages)
    return asdict(refused) if refused else {}
