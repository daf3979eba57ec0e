"""Where the screen (screen.py) stands in a request: before the model, and between the model and whoever asked."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from answering import CONTENT_FILTER, Filtered
from checks import Messages
from replies import Answer
from screen import Finding, Screen

WHY = {
    "injection": "it looks like an attempt to change what the model was told to do",
    "harm": "it was found to be harmful",
}


class Blocked(Exception):
    """A prompt that the model will not see; `at` says which conversation of the request."""

    def __init__(self, finding: Finding, at: int) -> None:
        super().__init__(f"The prompt was not answered, because {WHY[finding.kind]} ({finding.category}).")
        self.finding, self.at = finding, at

    @property
    def problem(self) -> dict[str, Any]:
        """The error, as Azure OpenAI words it. No word of the prompt."""
        inner = {"kind": self.finding.kind, "category": self.finding.category, "severity": self.finding.severity}
        kind = "invalid_request_error"
        return {"code": CONTENT_FILTER, "message": str(self), "type": kind, "param": None, "innererror": inner}


def check_prompts(screen: Screen, conversations: Iterable[Messages]) -> None:
    """Raises Blocked for the first conversation in which something is found, Undecided when nobody could look."""
    for at, messages in enumerate(conversations):
        if finding := screen.prompt(messages):
            raise Blocked(finding, at)


def check_answer(screen: Screen, answer: Answer) -> tuple[Answer, Finding | None]:
    """The answer as it may go out: as it is, or empty with the finish reason `content_filter`. Raises Undecided.

    Its token probabilities go too: they are told beside the tokens' texts.
    """
    finding = screen.answer(answer.text)
    return (replace(answer, text="", finish_reason=CONTENT_FILTER, logprobs=None) if finding else answer), finding


def looking(screen: Screen) -> Callable[[str], None]:
    """`check_answer` for an answer that is still growing: raises Filtered with the finding."""

    def look(text: str) -> None:
        if finding := screen.answer(text):
            raise Filtered(finding)

    return look


def label(finding: Finding | None) -> str:
    """A finding as a row of the collection `statistics` has it, "" for none."""
    return f"{finding.where}:{finding.kind}:{finding.category}" if finding else ""
