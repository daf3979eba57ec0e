"""Which language a text is probably in, offline, in microseconds: by its script, or in Latin script by its small words.

What this cannot see: languages outside the table, two languages in one text (the stronger one wins), the languages that
share a script (Cyrillic is one answer), and anything shorter than a sentence or two: all of these are None or a guess.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

# The commonest small words; a word that several languages share counts for each of them.
SMALL_WORDS = {
    "en": "the of and to in is that it for you was with on are this have not be as at from my your what can would but",
    "de": "der die das und ist nicht ich sie ein eine zu mit auf den von dem für sich auch als wie aber wird haben",
    "fr": "le la les et est une des que pour dans pas vous nous avec sur ce qui il elle sont mais au du être cette je",
    "es": "el la los las y es una que por con para no se del como más pero su lo este está ser cuando muy mi hay al",
    "it": "il lo la gli e è una che per con non di del della sono come più ma questo anche nel alla mi ho dei si",
    "pt": "o a os as e é uma que por com para não se do da em mais mas como este está ser seu dos foi pelo você ao",
    "nl": "de het een en is van niet ik dat op te zijn met voor aan er maar ook als naar bij heb wat wordt kan deze",
    "pl": "i w na nie się jest że z jak co za od ale po przez czy tak dla być mnie tylko ten już są który",
    "sv": "och att det är som en på för med inte jag av till den har ett om var men från kan så här ska vi när",
    "tr": "ve bir bu için ile çok daha gibi ne var olarak ama mı değil olan kadar sonra ben her şey nasıl en da de",
    "id": "yang dan di untuk dengan ini itu dari tidak pada adalah saya akan ada ke dalam bisa juga anda atau oleh",
}
SCRIPTS = {"CYRILLIC": "cyrillic", "GREEK": "el", "ARABIC": "arabic", "HEBREW": "he", "DEVANAGARI": "devanagari"}
SCRIPTS |= {
    "CJK": "zh",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "THAI": "th",
    "BENGALI": "bn",
    "TAMIL": "ta",
}
LOOKED_AT = 1_200  # characters
LEAST_WORDS = 4  # different small words, and half as many again as the next language has
_BY_WORD: dict[str, list[str]] = {}
for _language, _words in SMALL_WORDS.items():
    for _word in _words.split():
        _BY_WORD.setdefault(_word, []).append(_language)
_LETTERS = re.compile(r"[^\W\d_]+")
_NOT_LATIN = re.compile("[\u0370-\u1dff\u2e80-\ud7ff\uf900-\uffdc]")


def language(text: str) -> str | None:
    """A code of the table, or None where the text does not say clearly enough."""
    text = text[:LOOKED_AT]
    if not text.isascii() and (script := _script(text)):
        return script
    votes: Counter[str] = Counter()
    for word in _BY_WORD.keys() & _LETTERS.findall(text.lower()):
        votes.update(_BY_WORD[word])
    best = [*votes.most_common(2), ("", 0), ("", 0)]
    (first, most), (_, next_most) = best[0], best[1]
    return first if most >= LEAST_WORDS and most >= 1.5 * next_most else None


def _script(text: str) -> str | None:
    """The script that most letters have, when it is not Latin. Any kana make Japanese of what is mostly Han."""
    others = [c for c in _NOT_LATIN.findall(text) if c.isalpha()]
    if not others or 2 * len(others) <= sum(map(len, _LETTERS.findall(text))):
        return None
    names = Counter(SCRIPTS.get(unicodedata.name(c, "").split(" ")[0].split("-")[0]) for c in others)
    if names["ja"] * 20 >= len(others) and names["ja"]:
        return "ja"
    return names.most_common(1)[0][0]
