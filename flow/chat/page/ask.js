// Asks the page's server and reads its events. Knows nothing of the document.

// Posts one question. Calls `piece(text)` for each part of the answer; returns the result.
// Rejects with AbortError when `signal` stops it, which the server notices.
export async function ask(question, piece, signal) {
  let reply;
  try {
    reply = await post("/api/chat", question, signal);
  } catch (error) {
    if (signal.aborted) throw error;
    return failed("the page’s own server does not answer: is it still running?");
  }
  if (!reply.ok) return failed(await problem(reply), "page_error");
  try {
    for await (const event of events(reply.body)) {
      if (event.name === "piece") piece(event.data.text);
      if (event.name === "result") return event.data;
    }
  } catch (error) {
    if (signal.aborted) throw error;
  }
  return failed("the answer broke off: the page’s own server has ended");
}

// Says what somebody thinks of an answer; returns "" or what is wrong.
export async function rate(identity, deployment, rating) {
  try {
    const reply = await post("/api/feedback", { id: identity, deployment, rating });
    return reply.ok ? "" : await problem(reply);
  } catch {
    return "The page’s own server does not answer.";
  }
}

function post(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  return fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

async function problem(reply) {
  try {
    return (await reply.json()).problem;
  } catch {
    return `the page’s own server answered ${reply.status}`;
  }
}

function failed(detail, status = "infra_error") {
  return { status, detail, answer: "", deployment: "", model: "", tokens: 0 };
}

// Server-sent events of a body: {name, data}. Frames may be cut anywhere, in the middle of a letter too.
async function* events(body) {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += decoder.decode(value, { stream: true });
    const frames = text.split("\n\n");
    text = frames.pop();
    for (const frame of frames) {
      const field = (name) => frame.split("\n").find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      if (field("data")) yield { name: field("event"), data: JSON.parse(field("data")) };
    }
  }
}
