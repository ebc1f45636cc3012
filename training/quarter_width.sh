#!/usr/bin/env bash
# Trains what the tables in training/logs/quarter-width compare: the paper's generator with and without
# blur model and its rivals, at a quarter of their width, on the same patches in the same order, with
# one learning rate and schedule for all.  Two processor cores take about two hours.
#
#   bash training/quarter_width.sh CRIC_FOLDER RUNS
set -euo pipefail
images=$1 runs=$2

train() { # RECIPE, then what differs from it
  python -m focusfuse_training "$1" --data "$images" --cache "$runs/cache" --out "$runs/$1" "${@:2}"
}

python -m focusfuse_training paper-blur-w16 --data "$images" --cache "$runs/cache" \
  --out "$runs/paper-blur-w16"

same=(
  --set patch=96 --set batch=1 --set steps=2000 --set stacks=320 --set stack_px=480
  --set learning_rate=2e-4 --set warm_up=50 --set schedule=epochs --set epoch=200
  --set epoch_decay=0.8 --set validate_every=1000
)
quarter=(--set network.width=16 --set discriminator.width=16)
masks=(--set "blur_model=$runs/paper-blur-w16/best.safetensors")
for planes in single three; do
  train "paper-$planes" "${same[@]}" "${quarter[@]}" "${masks[@]}"
  train "paper-$planes-nobm" "${same[@]}" "${quarter[@]}"
  train "pix2pix-$planes" "${same[@]}" "${quarter[@]}" --set network.levels=5
  train "srgan-$planes" "${same[@]}" "${quarter[@]}" --set adversary_from=1000
  train "fusiongan-$planes" "${same[@]}" --set network.width=64 --set discriminator.width=8
done
