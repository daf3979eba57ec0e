"""A scoring script in place of Azure's own for a chat model in MLflow's form, which nobody deploys any code for.

The inference server around it is the real one, and so is the pipeline of transformers that answers. Which of Azure's
two servers it follows is in the model's `MLmodel`, as on Azure: with `azureml.base_image` in its metadata that of the
image foundation-model-inference, else the generic one (docs/emulator.md says where both were looked up, and what is not
like them). One request at a time, whole conversations, no streams.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask

FLAVOUR, TASK, IMAGE = "hftransformersv2", "chat-completion", "foundation-model-inference"
# What the generic server puts around a system prompt, whatever the model: Llama 2's marks.
SYSTEM = "<<SYS>>\n{}\n<</SYS>>\n\n"
# Words of a request that the pipeline takes; the image drops the others, the generic server fails with them.
KNOWN = {"temperature", "top_p", "top_k", "do_sample", "max_new_tokens", "max_length", "repetition_penalty", "min_p"}
Message = dict[str, str]

answer: Callable[[Any, dict[str, Any]], Any]


class Refused(ValueError):
    """What is wrong with a request, in one sentence."""


def init() -> None:
    """Load the model. Raises ValueError for a folder that is no chat model in MLflow's form."""
    global answer  # noqa: PLW0603 - the server's contract is two module-level functions
    import yaml
    from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

    root = Path(os.environ["AZUREML_MODEL_DIR"])
    file = next(root.rglob("MLmodel"), None)
    described = yaml.safe_load(file.read_text(encoding="utf-8")) if file else {}
    flavour = (described.get("flavors") or {}).get(FLAVOUR) or {}
    if file is None or flavour.get("task_type") != TASK:
        raise ValueError(f"The local Azure ML serves models of flavor {FLAVOUR} and task {TASK} without code.")
    data = file.parent / flavour["model_data"]
    model = AutoModelForCausalLM.from_pretrained(data / "model")
    tokenizer = AutoTokenizer.from_pretrained(data / "tokenizer")
    chat = pipeline("text-generation", model=model, tokenizer=tokenizer)
    image = str((described.get("metadata") or {}).get("azureml.base_image", ""))
    answer = _of_the_image(chat) if IMAGE in image else _generic(chat)


def run(body: str) -> flask.Response:
    try:
        given, parameters = _read(body)
        return flask.jsonify(answer(given, parameters))
    except Refused as error:
        return flask.make_response({"error": str(error)}, 400)


def _read(body: str) -> tuple[Any, dict[str, Any]]:
    try:
        given = json.loads(body)["input_data"]
        talk, parameters = given["input_string"], given.get("parameters") or {}
    except (ValueError, KeyError, TypeError):
        talk, parameters = None, {}
    if not isinstance(talk, list) or not talk or not isinstance(parameters, dict):
        raise Refused('The body must be {"input_data": {"input_string": [message, ...], "parameters": {...}}}.')
    return talk, dict(parameters)


def _of_the_image(chat: Any) -> Callable[[Any, dict[str, Any]], Any]:
    """One conversation in, {"output": text} back; a word it does not know is dropped without a word."""

    def reply(talk: Any, parameters: dict[str, Any]) -> dict[str, str]:
        known = {name: value for name, value in parameters.items() if name in KNOWN - {"do_sample"}}
        greedy = not parameters.get("temperature", 1)
        return {"output": _said(chat, _checked(talk), known | {"do_sample": not greedy})}

    return reply


def _generic(chat: Any) -> Callable[[Any, dict[str, Any]], Any]:
    """One conversation or several in. Back comes a row for each message or conversation, if there are as many answers
    as those, else a plain list."""

    def reply(talks: Any, parameters: dict[str, Any]) -> Any:
        if unknown := sorted(set(parameters) - KNOWN):
            raise Refused(f"The following `model_kwargs` are not used by the model: {unknown}.")
        each = [talks] if isinstance(talks[0], dict) else talks
        said = [_said(chat, [_marked(message) for message in _checked(talk)], dict(parameters)) for talk in each]
        return [{"0": text} for text in said] if len(said) == len(talks) else said

    return reply


def _marked(message: Message) -> Message:
    text = message["content"].strip()
    return {**message, "content": SYSTEM.format(text) if message["role"] == "system" else text}


def _checked(talk: Any) -> list[Message]:
    """The system's message first if there is one, then the user's and the assistant's in turn, the user's last."""
    if not isinstance(talk, list) or not talk or not all(_is_message(each) for each in talk):
        raise Refused("A conversation is a list of messages with role and content.")
    turns = [each["role"] for each in talk][talk[0]["role"] == "system" :]
    if len(turns) % 2 == 0 or turns != (["user", "assistant"] * len(turns))[: len(turns)]:
        raise Refused("The user's and the assistant's messages must take turns, and the last be the user's.")
    return talk


def _is_message(each: Any) -> bool:
    return isinstance(each, dict) and all(isinstance(each.get(key), str) for key in ("role", "content"))


def _said(chat: Any, talk: list[Message], parameters: dict[str, Any]) -> str:
    if not parameters.get("do_sample", True):  # else transformers warns that it does not look at it
        parameters.pop("temperature", None)
    return str(chat([talk], **parameters)[0][0]["generated_text"][-1]["content"])
