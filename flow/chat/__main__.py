"""`python -m chat`: serve the page on this machine until Ctrl-C."""

import argparse
import json
import os
import socket
import sys
import webbrowser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

EXAMPLE = """example: ENDPOINT_SCORING_URI=https://NAME.REGION.inference.ml.azure.com/score python -m chat
Exit codes: 0 ended with Ctrl-C, 3 invalid input."""
PORT = 8017
COLOURS = ("blue", "green")
SYSTEM_PROMPT = Path(__file__).resolve().parents[1] / "system_prompt.txt"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m chat", description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"where the page is served; 0 takes a free one ({PORT})")
    parser.add_argument("--live", type=Path, help="the record of `live`: names the models behind the colours")
    parser.add_argument("--open", action="store_true", help="open the page in your browser")
    args = parser.parse_args(argv)
    try:
        shown = settings(os.environ.get("ENDPOINT_SCORING_URI", ""), args.live)
        serve(shown, args.port, args.open)
    except ValueError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 3
    return 0


def settings(uri: str, live: Path | None) -> dict[str, Any]:
    """What the page shows of the endpoint. Raises ValueError."""
    address = urlsplit(uri)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ValueError("ENDPOINT_SCORING_URI must be the endpoint's scoring URI (https://…/score).")
    system = SYSTEM_PROMPT.read_text(encoding="utf-8").strip()
    return {"endpoint": address.hostname, "colours": colours(live), "system_prompt": system}


def colours(live: Path | None) -> dict[str, str]:
    """Deployments and the model behind each, "" where no record says it. Raises ValueError."""
    if live is None:
        return dict.fromkeys(COLOURS, "")
    try:
        record = json.loads(live.read_text(encoding="utf-8"))
        return {str(name): str(model) for name, model in record["deployments"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{live} is no record of `python -m scripts live`.") from None


def serve(shown: dict[str, Any], port: int, show: bool) -> None:
    """Blocks until Ctrl-C. Raises ValueError when the port cannot be had."""
    import uvicorn
    from asking import stream

    from .app import build
    from .opinion import rate

    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen(64)  # before the address is told: whoever opens it at once must find somebody
    except (OSError, OverflowError) as error:
        listening.close()
        raise ValueError(f"Port {port} cannot be used ({error}): take another one with --port.") from None
    address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    # Nothing about requests is logged; an open answer is not waited for when the user ends the server.
    config = uvicorn.Config(
        build(stream, rate, shown), log_level="critical", access_log=False, timeout_graceful_shutdown=1
    )
    print(f"Chat with {shown['endpoint']}: {address}  (Ctrl-C ends it)", flush=True)
    if show:
        webbrowser.open(address)
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass  # how one ends it
    finally:
        listening.close()


if __name__ == "__main__":
    sys.exit(main())
