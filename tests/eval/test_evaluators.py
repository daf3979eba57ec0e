"""The evaluators: what counts as right, to the letter."""

import inspect
import json
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.errors import EvalError
from eval.evaluators import (
    EVALUATORS,
    exact_match,
    f1,
    field_accuracy,
    json_valid,
    parsed,
    perplexity,
    refusal,
    rouge_l,
)
from eval.evaluators.structured import json_schema
from eval.evaluators.words import format_check
from eval.prompts import read_prompts

GOLD = '{"category":"billing","priority":"high","product":"Holt speaker","order_id":null}'
WRONG_ONE = GOLD.replace("high", "low")


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (GOLD, 1),
        (json.dumps(json.loads(GOLD), indent=2), 1),
        (json.dumps(dict(reversed(json.loads(GOLD).items()))), 1),
        (f"\n {GOLD} \n", 1),
        (WRONG_ONE, 0),
        (f"Sure: {GOLD}", 0),
        (f"{GOLD} Done.", 0),
        (f"```json\n{GOLD}\n```", 0),
        (GOLD + GOLD, 0),
        (GOLD[:-1], 0),
        (GOLD[:-1] + ',"note":"x"}', 0),
        (GOLD[:-1] + ',"priority":"high"}', 0),
        (GOLD.replace("null", '"null"'), 0),
        (GOLD.replace("null", "NaN"), 0),
        (GOLD.replace("billing", "Billing"), 0),
        ("", 0),
        ("null", 0),
    ],
)
def test_exact_match(answer, right):
    assert exact_match(answer=answer, expected=GOLD) == {"exact_match": right}


@pytest.mark.parametrize(("answer", "expected", "right"), [("1", "true", 0), ("1.0", "1", 0), ("a b", " a b ", 1)])
def test_exact_match_keeps_types_and_takes_text(answer, expected, right):
    assert exact_match(answer=answer, expected=expected) == {"exact_match": right}


@pytest.mark.parametrize(
    ("answer", "valid"), [(GOLD, 1), ("[]", 1), ("5", 0), ("", 0), ('{"a":1,"a":2}', 0), ("[" * 100_000, 0)]
)
def test_json_valid(answer, valid):
    assert json_valid(answer=answer) == {"json_valid": valid}


@pytest.mark.parametrize(
    ("answer", "share"),
    [(GOLD, 1), (WRONG_ONE, 0.75), ("{}", 0), (GOLD[:-1] + ',"x":1}', 0.8), ("[]", 0), ("no", 0)],
)
def test_field_accuracy(answer, share):
    assert field_accuracy(answer=answer, expected=GOLD) == {"field_accuracy": pytest.approx(share)}


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [("a b c", "A, b!", 0.8), ("x", "y", 0), ("", "", 1), ("", "a", 0), ("a a", "a", 2 / 3)],
)
def test_f1(answer, expected, score):
    assert f1(answer=answer, expected=expected) == {"f1": pytest.approx(score)}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_any_json_matches_itself_however_it_is_laid_out(value):
    text, other = json.dumps(value), json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    assert exact_match(answer=other, expected=text) == {"exact_match": 1}
    assert parsed(text) == (value,)


@given(st.text(), st.text())
def test_every_evaluator_gives_numbers_between_0_and_1_for_any_text(answer, expected):
    columns = {"answer": answer, "expected": expected}
    for name, evaluator in EVALUATORS.items():
        if name != "perplexity":
            given = evaluator(**{column: columns[column] for column in inspect.signature(evaluator).parameters})
            assert given and all(0 <= value <= 1 for value in given.values())


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [
        ("a b c d", "a b c d", 1),
        ("d c b a", "a b c d", 0.25),  # one word in order, of four and four
        ("police kill the gunman", "police killed the gunman", 0.75),  # Lin 2004: three of four
        ("the gunman kill police", "police killed the gunman", 0.5),  # … two of four
        ("a b", "a x b y", 2 / 3),  # 2·2 / (2 + 4)
        ("x", "y", 0),
        ("", "", 1),
        ("!", "", 1),
        ("", "a", 0),
    ],
)
def test_rouge_l(answer, expected, score):
    assert rouge_l(answer=answer, expected=expected) == {"rouge_l": pytest.approx(score)}


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.sampled_from("abcd"), max_size=40), st.lists(st.sampled_from("abcd"), max_size=40))
def test_rouge_l_agrees_with_the_reference_implementation(one, other):
    from rouge_score.rouge_scorer import RougeScorer

    answer, expected = " ".join(one), " ".join(other)
    if one and other:  # of nothing against nothing it makes 0
        wanted = RougeScorer(["rougeL"]).score(expected, answer)["rougeL"].fmeasure
        assert rouge_l(answer=answer, expected=expected)["rouge_l"] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("pattern", "max_length", "answer", "fits"),
    [
        (r"\{.*\}", None, '{"a":\n1}', 1),
        (r"\{.*\}", None, 'Sure: {"a":1}', 0),
        (r"yes|no", None, "yes", 1),
        (r"yes|no", None, "yes.", 0),
        (None, 3, "äöü", 1),
        (None, 3, "äöüä", 0),
        (r"a+", 3, "aaa", 1),
        (r"a+", 3, "aaaa", 0),
        (r"a+", 3, "b", 0),
        (None, 3, "", 1),
    ],
)
def test_format(pattern, max_length, answer, fits):
    assert format_check(pattern, max_length)(answer=answer) == {"format": fits}


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I cannot assist with this request.",
        "Sorry, I am unable to provide that information.",
        "As an AI language model, I cannot have opinions.",
        "I won't do that.",
        "I must decline to answer this question.",
        "I'm not able to discuss this topic.",
        "Unfortunately, I can not help you with that.",
        "We are not allowed to share customer data.",
        "I do not feel comfortable writing this.",
        "That is not something I can help with.",
    ],
)
def test_refusals(answer):
    assert refusal(answer=answer) == {"refusal": 1, "answered": 0}


@pytest.mark.parametrize(
    "answer",
    [
        GOLD,
        "",
        "The parcel cannot be delivered before Monday.",
        "You can't return opened boxes, but I can offer a voucher.",
        "I can help with that.",
        "I am sorry that the lamp broke. A new one is on its way.",
        "Sure! I will send you the invoice.",
        "The customer says: I do not want to pay twice.",
        "I don't know the order number, so order_id is null.",
        "Yes. " * 60 + "I can't help with that.",
    ],
)
def test_answers_that_are_no_refusals(answer):
    assert refusal(answer=answer) == {"refusal": 0, "answered": 1}


@pytest.mark.parametrize(
    ("logprobs", "value"),
    [([math.log(0.5)] * 3, 2), ([0.0], 1), ([math.log(0.5), math.log(0.125)], 4)],
)
def test_perplexity(logprobs, value):
    assert perplexity(logprobs=json.dumps(logprobs)) == {"perplexity": pytest.approx(value)}


def test_without_log_probabilities_there_is_no_perplexity():
    assert perplexity(logprobs="") == {}


@pytest.mark.parametrize("logprobs", ["[]", "x", "[null]", "[NaN]", "[0.5]", "{}", "3", "[-Infinity]", "[-1e9]"])
def test_wrong_log_probabilities_are_refused(logprobs):
    with pytest.raises(EvalError, match="logprobs"):
        perplexity(logprobs=logprobs)


TICKET = Path(__file__).parents[2] / "eval" / "ticket.schema.json"


@pytest.mark.parametrize(
    ("answer", "fits"),
    [
        (GOLD, 1),
        (json.dumps(json.loads(GOLD), indent=2), 1),
        (GOLD.replace("billing", "parcels"), 0),
        (GOLD.replace("null", "12"), 0),
        (GOLD.replace(',"order_id":null', ""), 0),
        (GOLD[:-1] + ',"note":"x"}', 0),
        (GOLD[:-1] + ',"priority":"high"}', 0),
        (f"Sure: {GOLD}", 0),
        ("", 0),
        ("[]", 0),
        ("null", 0),
    ],
)
def test_json_schema(answer, fits):
    assert json_schema(TICKET)(answer=answer) == {"json_schema": fits}


def test_every_expected_answer_fits_the_tickets_schema():
    fits = json_schema(TICKET)
    prompts = read_prompts(Path(__file__).parents[2] / "data" / "heldout.jsonl")
    assert all(fits(answer=prompt.expected)["json_schema"] for prompt in prompts)


@pytest.mark.parametrize("text", ["", "[]", "true", '{"type": "nothing"}', '{"type": 3}', '{"$ref": 1}'])
def test_what_is_no_schema_is_refused(text, tmp_path):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(EvalError, match=r"s\.json"):
        json_schema(tmp_path / "s.json")


def test_a_schema_elsewhere_is_not_fetched(tmp_path):
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        (tmp_path / "s.json").write_text(json.dumps({"$ref": f"http://127.0.0.1:{server.server_port}/schema.json"}))
        with pytest.raises(EvalError, match="refers to"):
            json_schema(tmp_path / "s.json")(answer="{}")
        server.shutdown()
    assert asked == []
