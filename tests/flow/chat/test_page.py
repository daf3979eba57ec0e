"""The page in headless Chromium, used as a person would: keys and clicks, judged by what the document then holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import Tab, running
from tests.flow.chat.conftest import ROOT, Server
from tests.flow.chat.endpoint import ANSWERS

pytestmark = pytest.mark.slow

PROMPT = (ROOT / "flow/system_prompt.txt").read_text(encoding="utf-8").strip()
# Every answer as the document has it, in order.
SEEN = """[...document.querySelectorAll('.answer')].map((a) => ({
  colour: a.dataset.colour, status: a.dataset.status, badge: a.querySelector('h2').innerText.trim(),
  text: a.querySelector('.text').textContent, facts: a.querySelector('.facts').textContent,
  trouble: a.querySelector('.trouble').hidden ? '' : a.querySelector('.trouble').textContent,
}))"""
DONE = "!document.querySelector('[aria-busy=true]') && !document.querySelector('#send').hidden"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with running(tmp_path_factory.mktemp("browser")) as one:
        yield one


@pytest.fixture
def page(tab: Tab, server: Server) -> Iterator[Tab]:
    """The page as it is when it is opened. Nothing in it may offend the console or its own policy."""
    tab.problems.clear()
    tab.size(1000, 800)
    tab.open(server.url)
    tab.until("document.querySelector('#endpoint').textContent === '127.0.0.1'")
    yield tab
    tab.js("1")  # what the console had to say comes before the answer
    assert tab.problems == []


def say(page: Tab, text: str) -> None:
    page.until("document.activeElement === document.querySelector('#text')")
    page.type(text)
    page.key("Enter")


def answers(page: Tab, count: int) -> list[dict[str, Any]]:
    page.until(f"{DONE} && document.querySelectorAll('.answer').length === {count}")
    return list(page.js(SEEN))


def test_it_streams_says_who_answered_and_sends_the_conversation_along(page: Tab, server: Server) -> None:
    say(page, "Where is my <b>parcel</b>?")
    page.until("document.querySelector('[aria-busy=true] .text')?.textContent.length > 5")
    (first,) = answers(page, 1)
    say(page, "And now?")
    both = answers(page, 2)
    assert both[0] == first and {each["colour"] for each in both} == {"blue", "green"}, "the traffic is split in turn"
    for each in both:
        assert each["status"] == "ok" and each["text"] == ANSWERS[each["colour"]]
        assert each["badge"].startswith(each["colour"]) and each["badge"].split()[1] in (
            "smollm2-135m-instruct:1",
            "ticket-triage:3",
        )
        assert re.fullmatch(r"\d+\.\d\d s · first word after \d+\.\d\d s · \d+ tokens", each["facts"])
    assert page.js("document.querySelector('.said .text').textContent") == "Where is my <b>parcel</b>?"
    assert page.js("document.querySelector('#status').textContent").startswith(f"{both[1]['colour']}: ")
    deployment, body = server.endpoint.requests[-1]
    assert (deployment, body["max_tokens"]) == ("", 128)
    assert [message["content"] for message in body["messages"]] == [
        PROMPT, "Where is my <b>parcel</b>?", first["text"], "And now?",
    ]  # fmt: skip


def test_both_colours_answer_side_by_side_each_with_its_own_past(page: Tab, server: Server) -> None:
    page.click("#both")
    page.click("#text")
    say(page, "first")
    answers(page, 2)
    say(page, "second")
    seen = answers(page, 4)
    assert [each["colour"] for each in seen] == ["blue", "green"] * 2
    tops = page.js("[...document.querySelectorAll('.answer')].slice(2).map((a) => a.getBoundingClientRect().top)")
    assert tops[0] == tops[1], "side by side where there is room"
    for colour, body in server.endpoint.requests[-2:]:
        assert body["messages"][2]["content"] == ANSWERS[colour]
    assert page.js("[...document.querySelectorAll('.opinion')].every((o) => o.hidden)"), "nobody keeps these"


def test_stop_ends_the_answer_here_and_at_the_endpoint(page: Tab, server: Server) -> None:
    server.endpoint.gone.clear()
    say(page, "count")
    page.until("document.querySelector('.answer .text')?.textContent.length > 20")
    page.click("#stop")
    (stopped,) = answers(page, 1)
    assert (stopped["status"], stopped["trouble"]) == ("stopped", "Stopped by you.")
    assert stopped["text"].startswith("0 1 2 3")
    assert server.endpoint.gone.wait(10)
    say(page, "count")
    page.until("document.querySelectorAll('.answer .text')[1]?.textContent.length > 20")
    page.key("Escape")
    assert answers(page, 2)[1]["status"] == "stopped"


@pytest.mark.parametrize(
    ("text", "status", "trouble", "kept"),
    [
        ("hurt them", "blocked", "Blocked. The endpoint's content filter refused the prompt.", ""),
        ("too long", "model_error", "The model could not answer this.", ""),
        ("nobody home", "infra_error", "No answer came. The endpoint answered 404", ""),
        (
            "break off",
            "infra_error",
            "The answer is not whole. The endpoint's stream ended",
            r"I am sorry |\{\S+ \S+ \S+ ",
        ),
    ],
)
def test_what_went_wrong_is_said_and_never_sent_again(
    page: Tab, server: Server, text: str, status: str, trouble: str, kept: str
) -> None:
    say(page, text)
    (seen,) = answers(page, 1)
    assert seen["status"] == status and seen["trouble"].startswith(trouble)
    assert re.fullmatch(kept, seen["text"])
    say(page, "hello")
    assert answers(page, 2)[1]["status"] == "ok"
    sent = [message["content"] for message in server.endpoint.requests[-1][1]["messages"]]
    assert sent == [PROMPT, "hello"]


def test_an_opinion_is_sent_to_who_answered(page: Tab, server: Server) -> None:
    say(page, "hello")
    (seen,) = answers(page, 1)
    page.click(".opinion .down")
    page.until("document.querySelector('.noted').textContent === 'Noted, thank you.'")
    deployment, body = server.endpoint.requests[-1]
    assert deployment == seen["colour"] and body["feedback"]["rating"] == "down"
    assert page.js("[...document.querySelectorAll('.opinion button')].map((b) => b.ariaPressed)") == ["false", "true"]


def test_the_system_prompt_is_the_users_to_choose(page: Tab, server: Server) -> None:
    assert page.js("document.querySelector('#system-text').value") == PROMPT
    choose = "(s => {{ s.value = '{}'; s.dispatchEvent(new Event('change')); }})(document.querySelector('#system'))"
    for kind, expected in (("none", ["hello"]), ("own", ["Be brief.", "hello"]), ("flow", [PROMPT, "hello"])):
        page.js(choose.format(kind))
        if kind == "own":
            page.click("summary")
            page.click("#system-text")
            page.type("Be brief.")
        page.click("#new")
        say(page, "hello")
        answers(page, 1)
        assert [message["content"] for message in server.endpoint.requests[-1][1]["messages"]] == expected


def test_keys_write_lines_and_nothing_empty_is_sent(page: Tab, server: Server) -> None:
    before = len(server.endpoint.requests)
    page.key("Enter")
    assert page.js("document.querySelector('#send').disabled")
    page.type("one")
    page.key("Enter", shift=True)
    page.type("two")
    page.key("Enter")
    answers(page, 1)
    assert len(server.endpoint.requests) == before + 1
    assert server.endpoint.requests[-1][1]["messages"][-1]["content"] == "one\ntwo"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 480, 1200])
def test_nothing_is_wider_than_the_window(page: Tab, width: int, scheme: str) -> None:
    page.scheme(scheme)
    page.size(width, 640)
    page.click("#both")
    page.click("#text")
    say(page, "a" * 300)
    answers(page, 2)
    page.click("summary")
    for part in ("document.documentElement", "document.querySelector('main')"):
        assert page.js(f"{part}.scrollWidth <= {part}.clientWidth"), part
    assert page.js("document.querySelector('#send').getBoundingClientRect().bottom <= innerHeight")


def test_every_control_has_a_name_and_can_be_reached(page: Tab) -> None:
    say(page, "hello")
    answers(page, 1)
    page.click("summary")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "textbox", "checkbox", "combobox", "spinbutton", "DisclosureTriangle"}
    named = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    controls = [(role, name) for role, name in named if role in roles]
    assert len(controls) >= 9 and all(name for _, name in controls), controls
    assert ("list", "Conversation") in named
    page.js("document.querySelector('#text').focus()")
    page.type("x")
    reached = set()
    for _ in range(14):
        reached.add(
            page.js("document.activeElement.id || document.activeElement.className || document.activeElement.tagName")
        )
        page.key("Tab")
    assert {"text", "both", "send", "new", "system", "max-tokens", "quiet up", "quiet down"} <= reached


def test_the_page_says_when_its_server_has_gone(tab: Tab, server: Server) -> None:
    """The last one, for it ends the server."""
    tab.open(server.url)
    say(tab, "count")
    tab.until("document.querySelector('.answer .text')?.textContent.length > 20")
    server.end()
    (broken,) = answers(tab, 1)
    assert broken["trouble"] == "The answer is not whole. The answer broke off: the page’s own server has ended."
    say(tab, "hello")
    assert "server does not answer" in answers(tab, 2)[1]["trouble"]
