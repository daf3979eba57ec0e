#!/usr/bin/env bash
# The whole release train on one machine, from data to live traffic: `make demo`, which runs this inside the local Azure ML.
# Every step is the command a workflow runs, through the unmodified Azure SDK.
#
#   promoted (default)  the candidate is better, passes the gate and becomes live
#   refused             the candidate learned from shuffled answers: the gate stops it, exit code 1
#   rollback            the candidate passes the gate and then fails on live traffic: taken back, exit code 1
set -euo pipefail
scenario=${1:-promoted}
out=${DEMO_OUT:-out/demo}
run=".venv/bin/python -m scripts"
export MLOPS_CONFIG=scripts/environments/demo.yaml

case $scenario in
  promoted | refused | rollback) ;;
  *) echo "✗ SCENARIO must be promoted, refused or rollback, not '$scenario'." >&2; exit 3 ;;
esac
rm -rf "$out"
mkdir -p "$out/scores"

took() { # took STAGE FROM: note the seconds since FROM
  awk -v stage="$1" -v from="$2" -v to="$(date +%s.%N)" \
    'BEGIN { printf "{\"stage\": \"%s\", \"seconds\": %.1f}\n", stage, to - from }' >>"$out/seconds.jsonl"
}
step() { # step STAGE COMMAND…: show the command, run it, note its seconds
  local stage=$1 from code=0
  shift
  from=$(date +%s.%N)
  printf '\n\033[1m▶ %s\033[0m  \033[2m%s\033[0m\n' "$stage" "${*/#.venv\/bin\//}"
  "$@" || code=$?
  took "$stage" "$from"
  return "$code"
}
finish() { # whatever happened, draw the page; the train's exit code stays
  local code=$?
  trap - EXIT
  $run report --records "$out" --scenario "$scenario" || code=$((code ? code : 4))
  exit "$code"
}
trap finish EXIT
took "start the local Azure ML" "${DEMO_STARTED:-$(date +%s.%N)}"

# 1. What must exist: workspace, cluster, environments, endpoint.
step provision $run provision --out "$out/provision.json"

# 2. The training data: checked, split, encoded, digested, uploaded.
source=data/tickets.jsonl
if [ "$scenario" = refused ]; then
  source=$out/tickets-shuffled.jsonl
  .venv/bin/python -m data.shuffle data/tickets.jsonl "$source"
fi
step data $run data --source "$source" --held-out data/heldout.jsonl --tokenizer .cache/smollm2-135m-instruct \
  --folder "$out/data" --out "$out/dataset.json"

# 3. The base model as blue with all the traffic: the stable side, and the baseline.
step "register base" $run register --folder .cache/smollm2-135m-instruct --name smollm2-135m-instruct --out "$out/model-baseline.json"
step "deploy stable" $run deploy --first --deployment blue --model "$out/model-baseline.json" --out "$out/deployment-stable.json"

# 4. The fine-tune, as an Azure ML job; its model, with its lineage.
step train $run train --recipe cpu_demo --dataset "$out/dataset.json" --base-model "$out/model-baseline.json" --out "$out/training.json"
step register $run register --training "$out/training.json" --out "$out/model.json"

# 5. The candidate as green, at 0%. (rollback: its server takes shorter tickets than live traffic brings.)
limit=()
if [ "$scenario" = rollback ]; then limit=(--variable MAX_INPUT_TOKENS=230); fi
step "deploy candidate" $run deploy --deployment green --model "$out/model.json" "${limit[@]}" --out "$out/deployment-candidate.json"

# 6. The prompt flow over the held-out prompts against both colours; the live model also with examples.
step "evaluate stable" $run evaluate --deployment blue --out "$out/scores/stable.jsonl"
step "evaluate stable, few-shot" $run evaluate --deployment blue --few-shot 3 --out "$out/scores/stable-few-shot.jsonl"
step "evaluate candidate" $run evaluate --deployment green --out "$out/scores/candidate.jsonl"

# 7. Is it good enough? Anything but a pass stops the train here.
step gate $run gate --candidate "$out/scores/candidate.jsonl" --candidate-model "$out/model.json" \
  --baseline "$out/scores/stable.jsonl" --baseline "$out/scores/stable-few-shot.jsonl" \
  --baseline-model "$out/model-baseline.json" --out "$out/verdict.json"

# 8. Traffic moves 0 → 10 → 50 → 100, judged by the requests themselves; blue stays deployed.
step rollout $run rollout run --candidate green --verdict "$out/verdict.json" --traffic data/live.jsonl --out "$out/rollout.json"
