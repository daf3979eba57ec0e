"""Near duplicates: how well they are found, on texts whose true likeness is counted beside."""

import random
import string

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.checks import check_rows
from data.languages import language
from data.rules import CHATS, load_rules
from data.similarity import alike, band_keys, signature

RNG = random.Random(7)
WORDS = ["".join(RNG.choices(string.ascii_lowercase, k=RNG.randint(2, 9))) for _ in range(3_000)]


def likeness(one: str, two: str) -> float:
    """The share of runs of eight letters that two texts have in common, counted."""
    runs = [{text[at : at + 8] for at in range(len(text))} for text in (one + " " * 7, two + " " * 7)]
    return len(runs[0] & runs[1]) / len(runs[0] | runs[1])


def changed(words: list[str], share: float) -> list[str]:
    return [RNG.choice(WORDS) if RNG.random() < share else word for word in words]


def test_recall_and_precision_on_a_made_up_set() -> None:
    """400 conversations, each with a copy of which 0 to 25 % of the words are others; of 20 to 400 words."""
    rows, true = [], []
    for number in range(400):
        words = RNG.choices(WORDS, k=RNG.choice([20, 60, 150, 400]))
        copy = changed(words, RNG.choice([0.005, 0.01, 0.02, 0.05, 0.1, 0.25]))
        texts = [" ".join(words), " ".join(copy)]
        true.append(likeness(*texts))
        for at, text in enumerate(texts):
            messages = [{"role": "user", "content": text}, {"role": "assistant", "content": f"{number}"}]
            rows.append({"id": f"{number}-{at}", "cluster_id": f"{number}-{at}", "messages": messages})
    pairs = signature_pairs(rows)
    near = np.array(true)
    found = np.array(pairs)
    clear_yes, clear_no = near >= 0.85, near <= 0.75
    assert found[clear_yes].mean() >= 0.98
    assert found[clear_no].mean() <= 0.02
    assert found[near >= 0.8].mean() >= 0.95  # recall
    assert (near[found] >= 0.8).mean() >= 0.93  # precision; what is found beside is at 0.7 or more
    assert near[found].min() >= 0.7
    checks = {one.code: one for one in check_rows("made-up", rows, rules=load_rules(CHATS))}
    exact = checks["duplicate"].count or 0
    assert checks["near_duplicate"].count == found.sum() - exact


def signature_pairs(rows: list[dict[str, object]]) -> list[bool]:
    texts = [row["messages"][0]["content"] for row in rows]  # type: ignore[index]  # what the user says
    ours = np.stack([signature(text) for text in texts])
    keys = band_keys(ours)
    return [
        bool(alike(ours[at : at + 1], ours[at + 1 : at + 2])[0] >= 0.8 and (keys[at] == keys[at + 1]).any())
        for at in range(0, len(rows), 2)
    ]


@given(text=st.text(max_size=200))
def test_case_spacing_and_punctuation_of_plain_text_do_not_matter(text: str) -> None:
    plain = "".join(c for c in text if (c.isascii() and c.isalnum()) or c == " ")
    noisy = "".join(f"{c.upper()}" if c != " " else " ,\n " for c in plain)
    assert (signature(plain) == signature(noisy)).all()
    assert signature(text).shape == (128,)
    assert (signature("Ça ÉTÉ, où Ω") == signature("ÇA été où  ω!")).all()


def test_languages_of_ordinary_sentences() -> None:
    said = {
        "en": "I would like to know what you think of the plan and whether it is on time for this year.",
        "de": "Ich weiß nicht, wie das für die Kinder ist, aber sie haben auch ein Haus auf dem Land.",
        "fr": "Je ne sais pas ce que vous avez dit, mais les enfants sont avec nous dans le jardin.",
        "es": "No sé por qué el perro está en la casa, pero los niños están con su madre y no se van.",
        "it": "Non so che cosa è della casa, ma il libro che ho con me è più bello anche per gli altri.",
        "pt": "Não sei como o menino está, mas os pais dele foram para casa e você não está com uma chave.",
        "nl": "Ik weet niet wat het is, maar de kinderen zijn met een boek naar het huis van mijn oom.",
        "cyrillic": "Я не знаю, что это такое, но мы скоро увидим.",
        "zh": "我不知道这是什么，但是我们很快就会看到。",
        "ja": "これは何か分かりませんが、すぐに見えます。",
        "ko": "이것이 무엇인지 모르겠지만 곧 알게 될 것입니다.",
        "el": "Δεν ξέρω τι είναι αυτό, αλλά θα το δούμε σύντομα.",
        None: "print(x) # 12345",
    }
    assert {language(text): language(text) for text in said.values()} == {code: code for code in said}
