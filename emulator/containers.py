"""Deployments that bring their own container. No container engine runs here, so a known image has a stand-in.

The Dockerfile of the environment's build context is read, its files are laid out, and its ENTRYPOINT is run as a
process; what the base image would bring (IMAGES) comes from `stand_ins/`, first on PATH. Any other image, and any
instruction that would have to be run to build one, ends the deployment with one sentence.
"""

from __future__ import annotations

import json
import re
import shlex
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from emulator.child_env import child_environment
from emulator.context import Emulator
from emulator.errors import ArmError
from emulator.storage import locate
from emulator.store import Resource

STAND_INS = Path(__file__).parent / "stand_ins"
# Base image -> the program that it brings, and what stands in for it here. docs/emulator.md says how they differ.
IMAGES = {"vllm/vllm-openai": ("vllm", STAND_INS / "vllm_stand_in.py")}
ROOT = PurePosixPath("/")
UNSUPPORTED = "The local Azure ML has no container engine: it"


@dataclass(frozen=True)
class Launch:
    """A command, its additions to the environment, and the folder that it runs in."""

    argv: list[str]
    env: dict[str, str]
    cwd: Path


@dataclass
class Dockerfile:
    """What is left of one when nothing may be built: files to copy, variables, a command."""

    image: str = ""
    workdir: PurePosixPath = ROOT
    env: dict[str, str] = field(default_factory=dict)
    copies: list[tuple[list[str], str]] = field(default_factory=list)  # sources, target as it would be in the container
    entrypoint: list[str] = field(default_factory=list)


def routes_of(emulator: Emulator, environment_id: str) -> dict[str, Any] | None:
    """The environment's inference_config; None when it has none."""
    environment = emulator.store.get(environment_id.removeprefix("azureml:")) or {"properties": {}}
    routes = environment["properties"].get("inferenceConfig")
    return routes if routes and routes.get("scoringRoute") else None


def scoring_path(emulator: Emulator, deployment: Resource) -> str:
    """Where a deployment takes requests: Azure makes this the path of the endpoint's scoring URI."""
    properties = deployment["properties"]
    environment = None if properties.get("codeConfiguration") else properties.get("environmentId")
    routes = routes_of(emulator, environment) if environment else None
    return str(routes["scoringRoute"].get("path") or "/") if routes else "/score"


def prepare(emulator: Emulator, deployment: Resource, code: Path, port: int) -> tuple[Launch, str]:
    """The command that stands for a container listening on `port`, and the path of its readiness route.

    ArmError 400 when the image, or how it is built, is not one that can stand here.
    """
    environment_id = deployment["properties"]["environmentId"].removeprefix("azureml:")
    environment = emulator.store.need(environment_id, "Environment")["properties"]
    routes = environment["inferenceConfig"]
    recipe, root = Dockerfile(image=str(environment.get("image") or "")), code / "root"
    root.mkdir(parents=True, exist_ok=True)
    if build := environment.get("build"):
        context = code / "context"
        workspace = emulator.store.need("/".join(deployment["id"].split("/")[:9]), "Workspace")
        emulator.storage.download(*locate(emulator, workspace, build["contextUri"]), context)
        file = context / (build.get("dockerfilePath") or "Dockerfile")
        if not file.is_file():
            raise ArmError(400, "ImageBuildFailed", f"The build context has no {file.name}.")
        recipe = parse(file.read_text(encoding="utf-8"))
        lay_out(recipe, context, root)
    name = re.split(r"[:@]", recipe.image, maxsplit=1)[0].removeprefix("docker.io/")
    if name not in IMAGES:
        message = f"{UNSUPPORTED} cannot run image '{recipe.image}', and can stand in for {', '.join(IMAGES)} alone."
        raise ArmError(400, "BadArgument", message)
    program, script = IMAGES[name]
    _program(code / "bin" / program, script, port)
    cwd = inside(root, recipe.workdir)
    cwd.mkdir(parents=True, exist_ok=True)
    path = f"{code / 'bin'}:{child_environment(emulator)['PATH']}"
    return Launch(recipe.entrypoint or [program, "serve"], {**recipe.env, "PATH": path}, cwd), _readiness(routes)


def _readiness(routes: dict[str, Any]) -> str:
    return str((routes.get("readinessRoute") or routes["scoringRoute"]).get("path") or "/")


def _program(at: Path, script: Path, port: int) -> None:
    """An executable that listens on `port` whatever it is told: a container has ports of its own, a process has not."""
    at.parent.mkdir(parents=True, exist_ok=True)
    line = shlex.join([sys.executable, str(script), "--listen", str(port)])
    at.write_text(f'#!/bin/sh\nexec {line} "$@"\n')
    at.chmod(at.stat().st_mode | stat.S_IXUSR)


def inside(root: Path, path: PurePosixPath) -> Path:
    """Where a container's absolute path lies below `root`."""
    return root.joinpath(*path.parts[1:])


def parse(text: str) -> Dockerfile:
    """ArmError 400 for an instruction that something would have to be run for."""
    found = Dockerfile()
    joined = re.sub(r"\\\s*\n", " ", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    for line in filter(str.strip, joined.splitlines()):
        name, _, rest = line.strip().partition(" ")
        match name.upper():
            case "FROM":
                found.image = rest.split()[0]
            case "WORKDIR":
                found.workdir = found.workdir / rest.strip()
            case "ENV" if "=" in rest:
                found.env |= dict(part.split("=", 1) for part in shlex.split(rest))
            case "COPY" if not rest.startswith(("--", "[")):
                *sources, target = shlex.split(rest)
                found.copies.append((sources, str(found.workdir / target)))
            case "ENTRYPOINT" if rest.startswith("["):
                found.entrypoint = [str(part) for part in json.loads(rest)]
            case "EXPOSE" | "USER" | "LABEL":
                pass
            case _:
                raise ArmError(400, "ImageBuildFailed", f"{UNSUPPORTED} cannot carry out '{line.strip()[:80]}'.")
    return found


def lay_out(recipe: Dockerfile, context: Path, root: Path) -> None:
    """Copy files as the build would. ArmError 400 for one that is not in the context."""
    for sources, target in recipe.copies:
        for source in sources:
            file = (context / source).resolve()
            if not file.is_relative_to(context.resolve()) or not file.is_file():
                raise ArmError(400, "ImageBuildFailed", f"COPY failed: '{source}' is no file of the build context.")
            place = inside(root, PurePosixPath(target))
            goes = place if len(sources) == 1 and place.suffix and target != str(recipe.workdir) else place / file.name
            goes.parent.mkdir(parents=True, exist_ok=True)
            goes.write_bytes(file.read_bytes())
