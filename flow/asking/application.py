"""All steps of the flow in a row, for an application that has no prompt flow: flow.dag.yaml in plain Python."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .calling import Message, ask
from .conversation import conversation, defaults
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
    system_prompt: str = "",
    answer_schema: Mapping[str, Any] | None = None,
    deployment: str = "",
    uri: str = "",
) -> Result:
    """Messages, input guard, the call, output guard, repair. Raises ValueError for a wrong input or set-up only.

    What is not given is as flow.dag.yaml has it. `answer_schema`: a JSON schema turns the repair on, {} off.
    """
    how = defaults().decoding if decoding is None else decoding
    schema = defaults().answer_schema if answer_schema is None else answer_schema
    check_schema(schema)

    def asked(messages: Sequence[Message]) -> Result:
        return guarded(ask(messages, how, deployment=deployment, uri=uri))

    messages = conversation(input_data, chat_history, few_shot, system_prompt or defaults().system_prompt)
    return refused_prompt(messages) or repaired(messages, asked(messages), schema, asked)


def answer_stream(
    input_data: str,
    chat_history: Sequence[Any] = (),
    few_shot: int = 0,
    decoding: Mapping[str, Any] | None = None,
    *,
    system_prompt: str = "",
    deployment: str = "",
    uri: str = "",
) -> Iterator[str | Result]:
    """The same as pieces of text and, last, the Result. No repair: what was given out cannot be taken back."""
    how = defaults().decoding if decoding is None else decoding
    messages = conversation(input_data, chat_history, few_shot, system_prompt or defaults().system_prompt)
    if refused := refused_prompt(messages):
        return iter([refused])
    return guarded_stream(stream(messages, how, deployment=deployment, uri=uri))
