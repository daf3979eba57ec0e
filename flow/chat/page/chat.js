// The page: shows the conversation and keeps it. All text goes in as text, never as markup.
import { ask, rate } from "/ask.js";

const $ = (id) => document.getElementById(id);
const TROUBLE = {
  blocked: "Blocked.",
  model_error: "The model could not answer this.",
  infra_error: "No answer came.",
  broken: "The answer is not whole.",
  page_error: "This was not sent.",
  stopped: "Stopped by you.",
};
const turns = []; // {text, answers: [{asked, status, text}]}
const running = new Set(); // an AbortController for each answer under way
let shown = { endpoint: "", colours: {}, system_prompt: "" };
let ownPrompt = "";

async function begin() {
  try {
    shown = await (await fetch("/api/settings")).json();
  } catch {
    announce("The page’s own server does not answer: is it still running?");
  }
  $("endpoint").textContent = shown.endpoint;
  $("both-label").hidden = Object.keys(shown.colours).length < 2;
  showPrompt();
  refresh();
}

function showPrompt() {
  const kind = $("system").value;
  $("system-text").readOnly = kind !== "own";
  $("system-text").value = { flow: shown.system_prompt, none: "", own: ownPrompt }[kind];
}

// What goes to `asked` ("" is whatever the traffic says): its own earlier answers where it gave any.
function messages(asked, text) {
  const system = $("system-text").value.trim();
  const said = system ? [{ role: "system", content: system }] : [];
  for (const turn of turns) {
    const good = turn.answers.filter((each) => ["ok", "stopped"].includes(each.status) && each.text);
    const answer = good.find((each) => each.asked === asked) ?? good[0];
    if (answer) said.push({ role: "user", content: turn.text }, { role: "assistant", content: answer.text });
  }
  return [...said, { role: "user", content: text }];
}

async function send() {
  const text = $("text").value.trim();
  if (!text || running.size || !$("max-tokens").reportValidity()) return;
  $("text").value = "";
  $("empty").hidden = true;
  const row = copy("turn");
  row.querySelector(".text").textContent = text;
  $("conversation").append(row);
  const both = $("both").checked && !$("both-label").hidden;
  const asked = both ? Object.keys(shown.colours) : [""];
  const questions = asked.map((deployment) => ({
    messages: messages(deployment, text), deployment, max_tokens: $("max-tokens").valueAsNumber,
  }));
  const turn = { text, answers: [] };
  turns.push(turn);
  await Promise.all(questions.map((question) => answer(turn, question, row.querySelector(".answers"))));
  refresh();
  const said = turn.answers.map((each) => `${each.by || "The endpoint"}: ${each.text} ${each.trouble}`);
  if (turns.includes(turn)) announce(said.join(" "));
  $("text").focus();
}

async function answer(turn, question, place) {
  const box = copy("answer");
  const text = box.querySelector(".text");
  const stop = new AbortController();
  const begun = performance.now();
  let first = 0;
  running.add(stop);
  name(box, question.deployment, "");
  place.append(box);
  refresh();
  follow(true);
  let result;
  try {
    result = await ask(question, (piece) => {
      first ||= performance.now() - begun;
      text.append(piece);
      follow();
    }, stop.signal);
  } catch {
    result = { status: "stopped", detail: "", answer: "", deployment: "", model: "", tokens: 0 };
  }
  running.delete(stop);
  if (result.status === "ok" || result.status === "blocked") text.textContent = result.answer;
  const trouble = result.status === "ok" ? "" : sentence(result, text.textContent);
  box.querySelector(".trouble").textContent = trouble;
  box.querySelector(".trouble").hidden = !trouble;
  box.dataset.status = result.status;
  box.setAttribute("aria-busy", "false");
  const by = result.deployment || question.deployment;
  name(box, by || "endpoint", result.model);
  box.querySelector(".facts").textContent = facts(result, first);
  turn.answers.push({ asked: question.deployment, status: result.status, text: text.textContent, by, trouble });
  // What is asked of one colour is no customer's: the endpoint keeps nothing of it, opinions neither.
  if (result.answer_id && !question.deployment) opinion(box, result.answer_id, by);
  follow();
}

function sentence(result, partly) {
  const what = partly && result.status === "infra_error" ? "broken" : result.status;
  const said = TROUBLE[what] ?? `The endpoint said ${what}.`;
  if (!result.detail) return said;
  const detail = result.detail[0].toUpperCase() + result.detail.slice(1);
  return `${said} ${detail}${/[.!?]$/.test(detail) ? "" : "."}`;
}

function name(box, colour, model) {
  box.dataset.colour = colour;
  box.querySelector(".colour").textContent = colour || "…";
  box.querySelector(".model").textContent = shown.colours[colour] || model;
}

function facts(result, first) {
  const seconds = (ms) => `${(ms / 1000).toFixed(ms < 10000 ? 2 : 0)} s`;
  const said = [];
  if (result.latency_ms) said.push(seconds(result.latency_ms));
  if (result.latency_ms && first) said.push(`first word after ${seconds(first)}`);
  if (result.tokens) said.push(`${result.tokens} tokens`);
  if (result.finish_reason === "length") said.push("cut at the longest answer");
  return said.join(" · ");
}

function opinion(box, identity, deployment) {
  box.querySelector(".opinion").hidden = false;
  for (const rating of ["up", "down"]) {
    box.querySelector(`.${rating}`).addEventListener("click", async () => {
      const wrong = await rate(identity, deployment, rating);
      for (const each of ["up", "down"]) box.querySelector(`.${each}`).setAttribute("aria-pressed", String(!wrong && each === rating));
      box.querySelector(".noted").textContent = wrong || "Noted, thank you.";
    });
  }
}

function refresh() {
  $("stop").hidden = !running.size;
  $("send").hidden = running.size > 0;
  $("send").disabled = !$("text").value.trim();
}

function stopAll() {
  for (const each of running) each.abort();
}

// Scrolls along unless the reader has scrolled up.
function follow(always = false) {
  const main = document.querySelector("main");
  if (always || main.scrollHeight - main.scrollTop - main.clientHeight < 120) main.scrollTop = main.scrollHeight;
}

function copy(template) {
  return $(template).content.firstElementChild.cloneNode(true);
}

function announce(text) {
  $("status").textContent = text;
}

$("ask").addEventListener("submit", (event) => { event.preventDefault(); send(); });
$("text").addEventListener("input", refresh);
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
});
$("stop").addEventListener("click", stopAll);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") stopAll(); });
$("system").addEventListener("change", showPrompt);
$("system-text").addEventListener("input", () => { ownPrompt = $("system-text").value; });
$("new").addEventListener("click", () => {
  stopAll();
  turns.length = 0;
  $("conversation").replaceChildren();
  $("empty").hidden = false;
  announce("A new conversation.");
  $("text").focus();
});
begin();
