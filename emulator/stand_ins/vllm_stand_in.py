"""Stands in for `vllm serve` where there is no GPU and no container: the OpenAI server that comes with transformers.

NOT vLLM: another scheduler, other kernels, no prefix cache, one request at a time. It is here so that what surrounds
vLLM runs for real: the image's own start script, options (each one known to vLLM, any other is refused), routes, model
folder, chat template, stop tokens, streaming, the released model's name. docs/emulator.md lists the differences.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

# Options of `vllm serve` that change nothing here.
WITHOUT_EFFECT = ("max-model-len", "max-num-seqs", "gpu-memory-utilization", "chat-template-content-format", "host")
SWITCHES = ("enable-prefix-caching", "disable-fastapi-docs", "enable-lora", "disable-uvicorn-access-log")


def options(argv: list[str]) -> argparse.Namespace:
    """SystemExit 2 for what vLLM would not know."""
    parser = argparse.ArgumentParser(prog="vllm")
    parser.add_argument("--listen", type=int, required=True)  # ours, of the wrapper on PATH
    serve = parser.add_subparsers(required=True).add_parser("serve")
    serve.add_argument("model")
    serve.add_argument("--served-model-name", required=True)
    serve.add_argument("--port", type=int)
    serve.add_argument("--dtype", choices=["auto", "half", "float16", "bfloat16", "float", "float32"], default="auto")
    serve.add_argument("--generation-config", choices=["auto", "vllm"], default="auto")
    serve.add_argument("--override-generation-config", type=json.loads, default={})
    serve.add_argument("--max-lora-rank", type=int, choices=[1, 8, 16, 32, 64, 128, 256, 320, 512], default=16)
    serve.add_argument("--lora-modules", nargs="*", default=[])
    serve.add_argument("--middleware", action="append", default=[])
    for name in WITHOUT_EFFECT:
        serve.add_argument(f"--{name}")
    for name in SWITCHES:
        serve.add_argument(f"--{name}", action=argparse.BooleanOptionalAction)
    return parser.parse_args(argv)


def pinned(asked: argparse.Namespace) -> type[Any]:
    """A model manager that has the asked models loaded under the names they are served by, and no other."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
    from transformers.cli.serving.model_manager import ModelManager, TimedModel

    folders = {asked.served_model_name: ("", asked.model)}
    folders |= {name: (path, asked.model) for name, _, path in (each.partition("=") for each in asked.lora_modules)}

    class Pinned(ModelManager):  # type: ignore[misc, unused-ignore]
        def load_model_and_processor(self, model_id_and_revision: str, *_: Any, **__: Any) -> tuple[Any, Any]:
            name = model_id_and_revision.rpartition("@")[0]
            if name not in folders:
                from fastapi import HTTPException

                raise HTTPException(404, f"The model `{name}` does not exist.")
            if name not in self.loaded_models:
                adapter, folder = folders[name]
                kept = {"dtype": asked.dtype, "trust_remote_code": False}
                model = AutoModelForCausalLM.from_pretrained(folder, **kept)
                if adapter:
                    from peft import PeftModel

                    model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
                stops = model.generation_config.eos_token_id, model.generation_config.pad_token_id
                if asked.generation_config == "vllm":
                    model.generation_config = GenerationConfig(eos_token_id=stops[0], pad_token_id=stops[1])
                over = dict(asked.override_generation_config)
                if over.get("temperature") == 0:
                    del over["temperature"]
                    over["do_sample"] = False
                model.generation_config.update(**over)
                tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
                self.loaded_models[name] = TimedModel(model.eval(), timeout_seconds=-1, processor=tokenizer)
            kept_model = self.loaded_models[name]
            return kept_model.model, kept_model.processor

        def process_model_name(self, model_id: str | None) -> str:  # type: ignore[override, unused-ignore]
            return f"{model_id or asked.served_model_name}@main"

    return Pinned


def main() -> None:
    asked = options(sys.argv[1:])
    if not (Path(asked.model) / "config.json").is_file():
        sys.exit(f"vllm: {asked.model} has no config.json")  # vLLM would look for it on the Hub
    from transformers.cli.serve import Serve
    from transformers.cli.serving import model_manager as managers
    from transformers.cli.serving import server

    managers.ModelManager = pinned(asked)
    plain = server.build_server

    def build(*given: Any, **named: Any) -> Any:
        app = plain(*given, **named)
        for each in asked.middleware:
            module, _, name = each.rpartition(".")
            app.add_middleware(getattr(importlib.import_module(module), name))
        for name in (asked.served_model_name, *(part.partition("=")[0] for part in asked.lora_modules)):
            given[0].load_model_and_processor(f"{name}@main")
        return app

    server.build_server = build
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # `localhost` alone: whoever reaches the port needs no token.
    Serve(force_model=None, host="127.0.0.1", port=asked.listen, device="cpu")


if __name__ == "__main__":
    main()
