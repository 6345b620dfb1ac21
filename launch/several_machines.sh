#!/usr/bin/env bash
# Client and server on two machines, over ssh.
#   launch/several_machines.sh HOSTS A.jpg B.jpg [options of `hybridface party client`]
# HOSTS names the hosts, one a line: the client's, the server's (see hosts.example). The photos lie on the client's
# host, the weights on the server's. Run it on either. `hybridface` is on PATH on each, or set HYBRIDFACE to its path
# there. CORRELATIONS=dealer adds a dealer on a third host, which must collude with neither.
# MPI does not encrypt: between organisations, run it inside a VPN (WireGuard) whose addresses HOSTS names.
set -euo pipefail
if [ $# -lt 3 ]; then
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")/.." && pwd)
export PATH="$here/.venv/bin:$PATH"
program=${HYBRIDFACE:-hybridface}
hosts=$1
shift
correlations=${CORRELATIONS:-ot}
dealer=()
if [ "$correlations" = dealer ]; then
    dealer=(: -n 1 "$program" party dealer --correlations dealer)
fi
# A rank that dies before it has joined MPI would leave the others waiting; end all after so many seconds.
export MPIEXEC_TIMEOUT="${MPIEXEC_TIMEOUT:-3600}"
exec mpiexec -f "$hosts" -ppn 1 -genv OMP_NUM_THREADS 1 \
    -n 1 "$program" party client "$@" --correlations "$correlations" : \
    -n 1 "$program" party server --correlations "$correlations" "${dealer[@]}"
