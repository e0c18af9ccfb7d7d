#!/bin/sh
# Wheels of the auditor and of all it needs, for the stemcell's platform, into src/wheels; from the registry that pip is configured for.
set -eu
cd "$(dirname "$0")"
mkdir -p src/wheels
python3 -m pip wheel --no-deps --wheel-dir src/wheels ..
python3 -m pip download --only-binary :all: --python-version 3.12 --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 \
  --dest src/wheels --find-links src/wheels 'diego-flow-auditor[run,history]'
