"""Node: the conversation to send. The logic is asking/conversation.py."""

from asking.conversation import SYSTEM_PROMPT, conversation
from promptflow.core import tool


@tool
def build_messages(
    input_data: str, chat_history: list | None = None, few_shot: int = 0, system_prompt: str = SYSTEM_PROMPT
) -> list:
    """Raises ValueError for a wrong input."""
    return conversation(input_data, chat_history or [], few_shot, system_prompt)
