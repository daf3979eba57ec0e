"""The held-out prompts: conversations whose last turn is the assistant's, which is the answer that is expected."""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from eval.errors import EvalError, first_problem

Text = Annotated[str, Field(min_length=1)]


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "user", "assistant"]
    content: Text


class Prompt(BaseModel):
    """One conversation. `cluster_id` groups paraphrases of one origin; `slices` are the tags results are split by.

    `context` is the text that an answer must be grounded in, for evaluators that look at it; the model is not sent it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Text
    cluster_id: Text
    messages: list[Message]
    slices: dict[str, str] = {}
    context: Text | None = None

    @model_validator(mode="after")
    def _ends_with_question_and_answer(self) -> "Prompt":
        if [message.role for message in self.messages[-2:]] != ["user", "assistant"]:
            raise ValueError("messages must end with a user's turn and the assistant's answer to it")
        return self

    @property
    def expected(self) -> str:
        return self.messages[-1].content

    @property
    def text(self) -> str:
        """The user's last text."""
        return self.messages[-2].content

    @property
    def history(self) -> list[dict[str, str]]:
        """The turns before that text, without the system message: the flow has its own."""
        return [message.model_dump() for message in self.messages[:-2] if message.role != "system"]


def read_prompts(path: Path) -> list[Prompt]:
    """Read a JSONL file of prompts. Raises EvalError naming file and line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise EvalError(f"{path}: the prompts cannot be read ({why}); give a JSONL file with --prompts.") from error
    prompts: dict[str, Prompt] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            prompt = Prompt.model_validate(json.loads(line))
        except json.JSONDecodeError as error:
            raise EvalError(f"{path}:{number}: not JSON ({error.msg} at column {error.colno}).") from error
        except ValidationError as error:
            raise EvalError(f"{path}:{number}: {first_problem(error)}.") from error
        if prompt.id in prompts:
            raise EvalError(f"{path}:{number}: prompt {prompt.id} is there twice.")
        prompts[prompt.id] = prompt
    if not prompts:
        raise EvalError(f"{path}: there are no prompts in it.")
    return list(prompts.values())
