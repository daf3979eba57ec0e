"""All steps of the flow in a row, for an application that has no prompt flow: flow.dag.yaml in plain Python."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .calling import Message, ask
from .conversation import SYSTEM_PROMPT, conversation, default_decoding
from .guards import guarded, guarded_stream, refused_prompt
from .repair import check_schema, repaired
from .result import Result
from .streaming import stream


def answer(
    input_data: str,
    chat_history: Sequence[Any] = (),
    few_shot: int = 0,
    decoding: Mapping[str, Any] | None = None,
    *,
    system_prompt: str = SYSTEM_PROMPT,
    answer_schema: Mapping[str, Any] | None = None,
    deployment: str = "",
    uri: str = "",
) -> Result:
    """Messages, input guard, the call, output guard, repair. Raises ValueError for a wrong input or set-up only.

    `decoding`: None stands for the flow's own. `answer_schema`: a JSON schema turns the repair on.
    """
    how = default_decoding() if decoding is None else decoding
    check_schema(answer_schema or {})

    def asked(messages: Sequence[Message]) -> Result:
        return guarded(ask(messages, how, deployment=deployment, uri=uri))

    messages = conversation(input_data, chat_history, few_shot, system_prompt)
    return refused_prompt(messages) or repaired(messages, asked(messages), answer_schema or {}, asked)


def answer_stream(
    input_data: str,
    chat_history: Sequence[Any] = (),
    few_shot: int = 0,
    decoding: Mapping[str, Any] | None = None,
    *,
    system_prompt: str = SYSTEM_PROMPT,
    deployment: str = "",
    uri: str = "",
) -> Iterator[str | Result]:
    """The same as pieces of text and, last, the Result. No repair: what was given out cannot be taken back."""
    how = default_decoding() if decoding is None else decoding
    messages = conversation(input_data, chat_history, few_shot, system_prompt)
    if refused := refused_prompt(messages):
        return iter([refused])
    return guarded_stream(stream(messages, how, deployment=deployment, uri=uri))
