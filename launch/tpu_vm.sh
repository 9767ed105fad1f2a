#!/usr/bin/env bash
# A job on all hosts of a TPU pod slice, from your own machine with gcloud:
#   launch/tpu_vm.sh TPU_NAME ZONE REPOSITORY configs/NAME.py [--field value ...]
# Installs the checkout of REPOSITORY (a git address) on every host once, then starts one process per
# host; they find each other from the pod's own metadata. --train.directory has to be a path all hosts
# share, such as a mounted bucket. The same command resumes.
set -euo pipefail

[ $# -ge 4 ] || { echo "usage: $0 TPU_NAME ZONE REPOSITORY configs/NAME.py [--field value ...]" >&2; exit 2; }
name=$1 zone=$2 repository=$3
shift 3
arguments=$(printf ' %q' "$@")

everywhere() { gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker=all --command "$1"; }

everywhere "[ -d tttlrm-jax ] || git clone $(printf %q "$repository") tttlrm-jax
cd tttlrm-jax && { [ -e .venv/installed ] || {
  python3 -m venv .venv && .venv/bin/pip install --quiet . 'jax[tpu]' && touch .venv/installed; }; }"
everywhere "cd tttlrm-jax && exec env TTTLRM_COORDINATOR=auto .venv/bin/python train.py$arguments"
