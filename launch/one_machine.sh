#!/usr/bin/env bash
# Client and server on this machine.
#   launch/one_machine.sh A.jpg B.jpg [options of `hybridface party client`]
# Exit status: 0 same person, 1 different people, 2 error. CORRELATIONS=dealer adds a third process, the dealer.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,4s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")/.." && pwd)
export PATH="$here/.venv/bin:$PATH" OMP_NUM_THREADS=1
correlations=${CORRELATIONS:-ot}
dealer=()
if [ "$correlations" = dealer ]; then
    dealer=(: -n 1 hybridface party dealer --correlations dealer)
fi
# A rank that dies before it has joined MPI would leave the others waiting; end all after so many seconds.
export MPIEXEC_TIMEOUT="${MPIEXEC_TIMEOUT:-3600}"
exec mpiexec -launcher fork \
    -n 1 hybridface party client "$@" --correlations "$correlations" : \
    -n 1 hybridface party server --correlations "$correlations" "${dealer[@]}"
