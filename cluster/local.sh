#!/usr/bin/env bash
# A Ray head that listens on this machine alone, with tokens on; Ctrl-C ends it, and no other Ray.
#     cluster/local.sh [options of `ray start`, such as --num-cpus=4]
# RAY_PORT and RAY_DASHBOARD_PORT move it; FLP_RAY_STORAGE and FLP_RAY_HUB: cluster/README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH"
export RAY_AUTH_MODE=token
export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0  # or Ray takes this machine's address for 127.0.0.1 and listens on all
export FLP_RAY_STORAGE="${FLP_RAY_STORAGE:-$HOME/flp_ray}"
export FLP_RAY_HUB="${FLP_RAY_HUB:-$HOME/flp_ray/hub}"
umask 077  # the token lies in a file of this user: ~/.ray/auth_token
ray get-auth-token --generate >/dev/null
exec ray start --head --block --node-ip-address=127.0.0.1 --port="${RAY_PORT:-6379}" \
  --dashboard-host=127.0.0.1 --dashboard-port="${RAY_DASHBOARD_PORT:-8265}" "$@"
