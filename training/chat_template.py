"""Our own chat templates: they mark what the assistant wrote, and no text of a user can become a control token.

The stock templates of Phi-3 and SmolLM2 have no `{% generation %}` block, so an assistant-only loss would have nothing
to learn from. The template is saved with the model: whoever serves the folder renders the same tokens.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training.errors import TrainingError

TEMPLATES = Path(__file__).resolve().parent / "templates"
END_OF_TURN = {
    "chatml": "<|im_end|>",
    "phi3": "<|end|>",
    "phi4": "<|end|>",
}  # what the assistant's turn ends with, per template


def control_tokens(tokenizer: Any) -> list[str]:
    """The tokenizer's added special tokens, longest first: a piece of text equal to one of them would become it."""
    added = tokenizer.added_tokens_decoder.values()
    names = {token.content for token in added if token.special and len(token.content) > 1}
    return sorted(names, key=lambda name: (-len(name), name))


def render_template(name: str, controls: list[str]) -> str:
    """The text of template `name` with the tokens that it must break up (by a space after their first character)."""
    path = TEMPLATES / f"{name}.jinja"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in TEMPLATES.glob("*.jinja")))
        raise TrainingError(
            f"There is no chat template '{name}'; the recipe's base_model.chat_template may be {known}."
        )
    return path.read_text(encoding="utf-8").replace("CONTROL_TOKENS", json.dumps(controls)).strip()


def install_template(tokenizer: Any, name: str) -> int:
    """Gives `tokenizer` the template `name`; returns the id of the token that ends a turn.

    Raises TrainingError when the tokenizer does not know that token as a special one.
    """
    template = render_template(name, control_tokens(tokenizer))
    end = END_OF_TURN[name]
    ids = tokenizer(end, add_special_tokens=False)["input_ids"]
    if len(ids) != 1 or end not in control_tokens(tokenizer):
        raise TrainingError(
            f"The tokenizer has no special token {end}, which chat template '{name}' ends a turn with; "
            "choose the template of the model's family in base_model.chat_template."
        )
    tokenizer.chat_template = template
    return int(ids[0])
