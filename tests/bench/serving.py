"""The scoring server under load: serving/ against the plain script (`_plain_score.py`), both in the real
azureml-inference-server-http, on the demo's base model; rounds are interleaved, so that a busy machine hits all alike.

    python -m tests.bench.serving --out out/bench/serving.json

What bounds it: SmolLM2-135M's 270 MB of weights are read once a step. On two cores of an AMD EPYC (AVX-512 BF16) its
matrix products alone take 6.5 ms for one sequence (41 GB/s, the memory's limit) and 10.5 ms for 16 (1,500 tokens/s);
the whole step of 16 takes 25 ms (640 tokens/s), the rest being attention and small operations. `generate`: 56 ms.
"""

import argparse
import contextlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "out" / "base"
ROUNDS, REQUESTS, TOKENS, SHOTS = 3, 16, 64, 8
SEQUENTIAL = 60  # requests one after the other, for what a request costs beside the model's work
ALONE = 4  # requests per round where they go one by one: the rate is the same for four as for sixteen
ALLOWED_MS = 5.0  # of a request, beside generation
SERVE = "from azureml_inference_server_http.amlserver import run; run()"

Talk = list[dict[str, str]]


@dataclass(frozen=True)
class Server:
    url: str
    seconds_to_healthy: float


@dataclass(frozen=True)
class Load:
    requests_per_second: float
    tokens_per_second: float
    answers: tuple[str, ...]
    seconds: tuple[float, ...] = ()  # each request's, at the client


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "bench" / "serving.json")
    out: Path = parser.parse_args().out
    rows = run()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    for row in rows:
        print(f"{row['metric']}: {row['ours']:.3g} against {row['other']:.3g} {row['unit']} (×{row['ratio']:.2f})")
    return 0


def run() -> list[dict[str, Any]]:
    subprocess.run([sys.executable, "-m", "training.base_model", "--output", str(MODEL)], cwd=ROOT, check=True)
    plain, few_shot = prompts()
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(server(ROOT / "serving" / "score.py", threads=40))
        forgetful = stack.enter_context(server(ROOT / "serving" / "score.py", threads=40, PREFIX_CACHE_TOKENS="0"))
        simple = stack.enter_context(server(Path(__file__).with_name("_plain_score.py")))
        for url in (ours.url, forgetful.url, simple.url):  # the first passes pay for memory and kernels
            load(url, plain[:2], 2, tokens=4)
        seen: dict[str, list[Load]] = {}
        for _ in range(ROUNDS):
            for name, url, talks, concurrency in (
                ("ours", ours.url, plain, 16),
                ("simple", simple.url, plain[:ALONE], 16),
                ("ours singly", ours.url, plain[:ALONE], 1),
                ("few-shot", ours.url, few_shot, 16),
                ("few-shot forgetful", forgetful.url, few_shot, 16),
            ):
                seen.setdefault(name, []).append(load(url, talks, concurrency))
            seen.setdefault("generate 16", []).append(batch(simple.url, plain))
        beside = beyond_generation(ours.url, plain)
    alone = {answer for each in seen["ours singly"] for answer in each.answers}
    equal = [answer in alone for each in seen["ours"] for answer in each.answers[:ALONE]]
    share = sum(equal) / len(equal)

    def row(metric: str, ours: str, other: str, other_is: str, tokens: bool = False) -> dict[str, Any]:
        a, b = ([x.tokens_per_second if tokens else x.requests_per_second for x in seen[n]] for n in (ours, other))
        ratio = statistics.median(x / y for x, y in zip(a, b, strict=True))
        mine, others = statistics.median(a), statistics.median(b)
        unit = "tokens/s" if tokens else "requests/s"
        return _row(metric, unit, mine, others, other_is, ratio, ROUNDS)

    mine, others = (_p95([x for each in seen[name] for x in each.seconds]) for name in ("ours", "simple"))
    one = "the same server, one request at a time"
    return [
        row("16 clients, zero-shot tickets", "ours", "simple", "a plain script calling generate for each request"),
        row("16 clients, gain of batching", "ours", "ours singly", one),
        row("16 clients, few-shot tickets", "few-shot", "few-shot forgetful", "the same server, no kept prefixes"),
        row("tokens of 16 answers", "ours", "generate 16", "generate on all 16 as one batch, known beforehand", True),
        _row(
            "16 clients, p95 of a request", "s", mine, others, f"the plain script, of {ALONE} waiting requests only",
            mine / others, len(seen["ours"]) * REQUESTS,
        ),
        _row(
            "a request beyond generation and queue", "ms", beside, ALLOWED_MS, "the most we allow", beside / ALLOWED_MS,
            SEQUENTIAL,
        ),
        _row("answers equal in a batch and alone", "share", share, 1.0, "all of them", share, len(equal)),
        _row(
            "start to healthy", "s", ours.seconds_to_healthy, simple.seconds_to_healthy, "the plain script",
            ours.seconds_to_healthy / simple.seconds_to_healthy, 1,
        ),
    ]  # fmt: skip


def _row(metric: str, unit: str, ours: float, other: float, other_is: str, ratio: float, runs: int) -> dict[str, Any]:
    values = {"ours": round(ours, 4), "other": round(other, 4), "other_is": other_is, "ratio": round(ratio, 3)}
    return {"metric": metric, "unit": unit, **values, "runs": runs}


def prompts() -> tuple[list[Talk], list[Talk]]:
    """Held-out tickets without their answers: as they are, and behind a few answered ones of the pool."""
    held = [json.loads(line)["messages"] for line in _head(ROOT / "data" / "heldout.jsonl", REQUESTS * 3)]
    pool = [json.loads(line)["messages"] for line in _head(ROOT / "data" / "tickets.jsonl", SHOTS)]
    shots = [message for talk in pool for message in talk if message["role"] != "system"]
    talks = [talk[:-1] for talk in held[::3]]
    return talks, [[talk[0], *shots, *talk[1:]] for talk in talks]


def _head(path: Path, lines: int) -> list[str]:
    with path.open(encoding="utf-8") as file:
        return [line for line, _ in zip(file, range(lines), strict=False)]


def load(url: str, talks: Sequence[Talk], concurrency: int, tokens: int = TOKENS) -> Load:
    """Send each conversation once with so many clients at a time."""
    with httpx.Client(timeout=300) as client, ThreadPoolExecutor(concurrency) as pool:
        start = time.perf_counter()
        replies = list(pool.map(lambda talk: timed(client, url, talk, tokens), talks))
        seconds = time.perf_counter() - start
    told = measured([reply for reply, _ in replies], len(talks), seconds)
    return replace(told, seconds=tuple(took for _, took in replies))


def timed(client: httpx.Client, url: str, talk: Talk, tokens: int) -> tuple[Any, float]:
    start = time.perf_counter()
    return ask(client, url, talk, tokens), time.perf_counter() - start


def beyond_generation(url: str, talks: Sequence[Talk]) -> float:
    """Median milliseconds of a request, one after the other, that neither the model nor its queue took.

    Asked with the standard library: httpx takes a millisecond or two of its own, which are no server's.
    """
    found = []
    with contextlib.closing(http.client.HTTPConnection(url.partition("//")[2], timeout=300)) as client:
        for i in range(SEQUENTIAL):
            body = json.dumps({"messages": talks[i % len(talks)], "max_tokens": 8})
            start = time.perf_counter()
            client.request("POST", "/score", body, {"content-type": "application/json"})
            reply = client.getresponse()
            answer = reply.read()
            took = (time.perf_counter() - start) * 1000
            if reply.status != 200:
                raise SystemExit(f"✗ the server answered {reply.status}: {answer[:200]!r}")
            found.append(took - float(reply.headers["x-generation-ms"]) - float(reply.headers["x-queue-ms"]))
    return statistics.median(found)


def _p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def batch(url: str, talks: Sequence[Talk]) -> Load:
    with httpx.Client(timeout=300) as client:
        start = time.perf_counter()
        reply = ask(client, url, talks, TOKENS)
        return measured([reply], len(talks), time.perf_counter() - start)


def ask(client: httpx.Client, url: str, talk: Any, tokens: int) -> Any:
    reply = client.post(f"{url}/score", json={"messages": talk, "max_tokens": tokens})
    reply.raise_for_status()
    return reply.json()


def measured(replies: Sequence[Any], requests: int, seconds: float) -> Load:
    tokens = sum(reply["usage"]["completion_tokens"] for reply in replies)
    answers = tuple(choice["message"]["content"] for reply in replies for choice in reply["choices"])
    return Load(requests / seconds, tokens / seconds, answers)


@contextlib.contextmanager
def server(script: Path, threads: int = 0, **settings: str) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ, "AZUREML_MODEL_DIR": str(MODEL), "AML_APP_ROOT": str(script.parent), "HF_HUB_OFFLINE": "1",
        "GUNICORN_CMD_ARGS": f"--threads {threads} --keep-alive 75" if threads else "", **settings,
    }  # fmt: skip
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, "--entry_script", script.name, "--port", str(port)],
        cwd=script.parent, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        while not _healthy(url):
            if process.poll() is not None or time.perf_counter() - start > 180:
                raise SystemExit(f"✗ the server with {script.name} did not start: run it by hand to see why")
            time.sleep(0.05)
        yield Server(url, time.perf_counter() - start)
    finally:
        process.terminate()
        process.wait(30)


def _healthy(url: str) -> bool:
    try:
        return httpx.get(url, timeout=60).status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    sys.exit(main())
