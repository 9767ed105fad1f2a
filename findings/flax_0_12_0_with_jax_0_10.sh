#!/usr/bin/env bash
# flax 0.12.0 and older install beside jax 0.10.0 (their metadata asks for a lowest jax only), and fail when flax is
# imported: a name they take from jax's inner modules is no longer there. flax 0.12.1 imports.
#
# Seen   Python 3.11, jax 0.10.0:
#          flax 0.11.2: ImportError: cannot import name 'mutable_array' from 'jax._src.core'
#          flax 0.12.0: the same
#          flax 0.12.1: imports
# Here   pyproject.toml asks for flax>=0.12.1; .ci/floors installs the lowest versions and uses them.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
for version in 0.12.0 0.12.1; do
  env/bin/pip install --quiet "jax==0.10.0" "flax==$version"
  said=$(env/bin/python -c 'import flax.nnx; print("imports")' 2>&1 | tail -n 1 || true)
  echo "flax $version with jax 0.10.0: $said"
  case "$version:$said" in
    0.12.0:ImportError*mutable_array*) ;;
    0.12.1:imports) ;;
    *) echo "this is not what was seen"; exit 1 ;;
  esac
done
