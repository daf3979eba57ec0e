"""Made-up conversations of ultrachat's lengths: sentences of Python's own manual, in three to four turns each.

About 1,374 tokens each (ultrachat_200k's mean), log-normally spread; with made-up names and the quotes, dashes and
accents that real chats have, so that neither words nor characters are fewer than there.
"""

import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MEAN_TOKENS = 1_374
TOKENS_A_SENTENCE = 28.0
SYLLABLES = ["ka", "lo", "mi", "ren", "tu", "sha", "vel", "dor", "in", "pa", "qui", "zen", "ber", "ol", "fay", "gri"]


def sentences() -> list[str]:
    from pydoc_data import topics

    text = "\n\n".join(topics.topics.values())
    found = [" ".join(one.split()) for one in re.split(r"(?<=[.!?])\s+|\n\n", text)]
    return [one for one in found if 40 < len(one) < 300]


def conversations(count: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    rng, said = random.Random(seed), sentences()

    def sentence() -> str:
        text = said[int(rng.random() * len(said))]
        draw = rng.random()
        if draw < 0.25:
            name = "".join(rng.choices(SYLLABLES, k=3)).title()
            return f"{name} {rng.randint(2, 9999)}: {text}"
        return f"“{text}” – café {text[:9]}’s" if draw < 0.28 else text

    for number in range(count):
        wanted = MEAN_TOKENS * rng.lognormvariate(-0.125, 0.5) / TOKENS_A_SENTENCE
        turns = rng.randint(3, 4)
        messages = []
        for _ in range(turns):
            messages.append({"role": "user", "content": " ".join(sentence() for _ in range(2))})
            answer = [sentence() for _ in range(max(1, round(wanted / turns - 2)))]
            messages.append({"role": "assistant", "content": "\n\n".join((" ".join(answer[:9]), *answer[9:]))})
        yield {"id": f"chat-{seed}-{number}", "messages": messages}


def write(path: Path, count: int, seed: int = 1) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in conversations(count, seed):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
