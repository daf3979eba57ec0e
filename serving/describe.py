"""What may be kept of a request without keeping a word of it: numbers, flags, and a sketch of the prompt.

The sketch tells two *crowds* of prompts apart, not two prompts. Each word of the user's messages adds +1 or −1 to one
of 32 places, by its checksum; the sum is scaled to length 1, and chance of about the same size is added. Thousands of
words share a place, so no text can be read back, and the chance hides whether one guessed word was there.
"""

import json
import random
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

PLACES = 32
NOISE = 0.15  # standard deviation of the chance in each place
SCALE = 100  # whole numbers travel in a quarter of the space
LOOKED_AT = 20_000  # characters of a prompt
LONG_WORD = 24  # what has no spaces (Chinese, Thai) is taken in pairs of characters
WORDS = re.compile(r"\w+")
REFUSAL = re.compile(
    r"\b(?:I(?:'m| am) (?:sorry|afraid|unable|not able)|I (?:can't|cannot|won't|will not) "
    r"(?:help|assist|answer|do|provide|comply|fulfil)|as an AI\b"
    r"|(?:ich|wir) k(?:ann|önnen) (?:dabei |Ihnen |dir )*nicht helfen"
    r"|je ne (?:peux|suis) pas|no puedo ayudar)",
    re.IGNORECASE,
)
SMALL_WORDS = {
    "en": "the of and to is that it for you was with this have not be my your what would but",
    "de": "der die das und ist nicht ich sie ein eine zu mit auf den von für auch wie aber",
    "fr": "le la les et est une des que pour dans pas vous nous avec sur mais je être cette",
    "es": "el los las es una que por con para se del como más pero su este muy cuando hay",
    "it": "il gli è una che per con non di della sono come più ma questo anche nel mi ho",
    "pt": "os as uma que por com para não se do da em mais mas ser seu foi pelo você",
    "nl": "het een van niet ik dat op te zijn met voor aan maar ook naar wat wordt deze",
}
_BY_WORD: dict[str, list[str]] = {}
for _language, _words in SMALL_WORDS.items():
    for _word in _words.split():
        _BY_WORD.setdefault(_word, []).append(_language)
_CHANCE = random.SystemRandom()


class Vocabulary:
    """Which tokens of a tokenizer are rare: it has none better, or it learned them last, for want of commoner ones."""

    def __init__(self, tokenizer: Any) -> None:
        words: dict[str, int] = tokenizer.get_vocab()
        special = set(tokenizer.all_special_ids)
        ordinary = [number for number in words.values() if number not in special]
        self.rare_from = len(ordinary) // 2
        self.special = special
        self.pieces = {number for word, number in words.items() if _raw_byte(word)} - special
        if tokenizer.unk_token_id is not None:
            self.pieces.add(tokenizer.unk_token_id)

    def rare_share(self, ids: Sequence[int]) -> float:
        """Of the tokens that are no control tokens, the share that is rare."""
        counted = [token for token in ids if token not in self.special]
        rare = sum(token >= self.rare_from or token in self.pieces for token in counted)
        return round(rare / len(counted), 4) if counted else 0.0


def _raw_byte(word: str) -> bool:
    """A byte of a character that the vocabulary lacks: <0xC3> (SentencePiece), or one high byte (byte-level BPE)."""
    return bool(re.fullmatch(r"<0x[0-9A-F]{2}>", word)) or (len(word) == 1 and 0xA1 <= ord(word) <= 0xFF)


def said_by_users(messages: Sequence[dict[str, str]]) -> str:
    """A system prompt is the same everywhere and would drown the rest."""
    return "\n".join(message["content"] for message in messages if message["role"] == "user")


def sketch(text: str) -> list[int]:
    """32 small whole numbers; another draw of chance each time."""
    sums = [0.0] * PLACES
    for word in _pieces(text[:LOOKED_AT].lower()):
        code = zlib.crc32(word.encode("utf-8", "replace"))
        sums[code % PLACES] += 1.0 if code & 0x40000000 else -1.0
    length = sum(value * value for value in sums) ** 0.5 or 1.0
    return [round(SCALE * (value / length + _CHANCE.gauss(0, NOISE))) for value in sums]


def _pieces(text: str) -> list[str]:
    found: list[str] = []
    for word in WORDS.findall(text):
        # One word for all numbers: whose order it is must not be told, and says nothing about the topic.
        if any(c.isdigit() for c in word):
            found.append("0")
        elif len(word) > LONG_WORD or not word.isascii():
            found += [word[at : at + 2] for at in range(max(1, len(word) - 1))]
        else:
            found.append(word)
    return found


def language(text: str) -> str:
    """A guess: the script of most letters, in Latin script the language with most small words; "unknown" otherwise."""
    text = text[:1_200]
    foreign = [c for c in text if ord(c) > 0x36F and c.isalpha()]
    if foreign and 2 * len(foreign) > sum(c.isalpha() for c in text):
        return unicodedata.name(Counter(foreign).most_common(1)[0][0], "unknown").split(" ")[0].split("-")[0].lower()
    votes: Counter[str] = Counter()
    for word in _BY_WORD.keys() & set(WORDS.findall(text.lower())):
        votes.update(_BY_WORD[word])
    (first, most), (_, second) = [*votes.most_common(2), ("unknown", 0), ("unknown", 0)][:2]
    return first if most >= 2 and most > second else "unknown"


def schema_checker(text: str) -> Any:
    """A check of answers against the JSON schema in `text`; None for "". Raises ValueError for what is no schema."""
    if not text.strip():
        return None
    from jsonschema import Draft202012Validator, SchemaError

    try:
        schema = json.loads(text)
        Draft202012Validator.check_schema(schema)
    except (ValueError, SchemaError) as error:
        raise ValueError(f"ANSWER_SCHEMA is not a JSON schema: {str(error).splitlines()[0]}") from None
    return Draft202012Validator(schema)


def fits(answer: str, checker: Any) -> bool | None:
    """Whether an answer is JSON of the schema; None when nobody said which schema."""
    if checker is None:
        return None
    try:
        return bool(checker.is_valid(json.loads(answer)))
    except (ValueError, RecursionError):
        return False


def statistics(
    messages: Sequence[dict[str, str]], prompt: Sequence[int], answer: str, vocabulary: Vocabulary, checker: Any
) -> dict[str, Any]:
    """A row of the collection `statistics`, less who answered and how the answer ended."""
    text = said_by_users(messages)
    return {
        "prompt_characters": len(text),
        "prompt_tokens": len(prompt),
        "rare_share": vocabulary.rare_share(prompt),
        "language": language(text),
        "sketch": sketch(text),
        "answer_characters": len(answer),
        "valid": fits(answer, checker),
        "refused": bool(REFUSAL.search(answer)),
    }
