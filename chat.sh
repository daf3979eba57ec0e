#!/usr/bin/env bash
# `make chat`: a page in your browser that talks to the endpoint. Which one?
#
#   ENDPOINT_SCORING_URI is set   that endpoint on Azure, signed in as you are (`az login`)
#   else                          the one that `make demo` left in the local Azure ML, started and stopped here if need be
set -euo pipefail
bin=.venv/bin/python

if [ -n "${ENDPOINT_SCORING_URI:-}" ]; then
  PYTHONPATH=flow exec $bin -m chat "$@"
fi

export EMULATOR_HOME=${EMULATOR_HOME:-.emulator/run} MLOPS_CONFIG=${MLOPS_CONFIG:-scripts/environments/demo.yaml}
if [ ! -d "$EMULATOR_HOME" ]; then
  echo "✗ There is no endpoint to talk to: run make demo first, or set ENDPOINT_SCORING_URI to one on Azure." >&2
  exit 3
fi
record=$(mktemp)
started=
finish() {
  rm -f "$record"
  if [ -n "$started" ]; then $bin -m emulator down; fi
}
trap finish EXIT
if ! $bin -m emulator status >/dev/null; then
  echo "Starting the local Azure ML that make demo left"
  started=yes
  $bin -m emulator up >/dev/null
fi
eval "$($bin -m emulator env)"
$bin -m scripts live --out "$record" >/dev/null
ENDPOINT_SCORING_URI=$($bin -c 'import json, sys; print(json.load(open(sys.argv[1]))["scoring_uri"])' "$record")
export ENDPOINT_SCORING_URI
PYTHONPATH=flow $bin -m chat --live "$record" "$@"
