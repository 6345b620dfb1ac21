#!/usr/bin/env bash
# Run client and server on this machine.
#   launch/one_machine.sh A.jpg B.jpg [options of `hybridface party`]
# Every option goes to the ranks that need it. Exit status: 0 same person, 1 different people, 2 error.
# CORRELATIONS=dealer, or --correlations dealer, adds a third process, the dealer.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")/.." && pwd)
source "$here/launch/ranks.sh"
export PATH="$here/.venv/bin:$PATH" OMP_NUM_THREADS=1
need mpiexec.gforker
need hybridface
sort_words "$@"
# If a rank dies before it has joined MPI, the others wait for it. So mpiexec ends all ranks after this many seconds.
export MPIEXEC_TIMEOUT="${MPIEXEC_TIMEOUT:-3600}"
# Ranks of one machine need no port, and mpiexec.gforker listens on none. If a rank was killed, its output says so, but
# its exit status does not.
ends=$(mktemp)
trap 'rm -f "$ends"' EXIT
rank=(-n 1 sh -c 'exec hybridface party "$@" >&3 2>&4' rank)
status=0
mpiexec.gforker -exitinfo -genv UCX_TLS self,sysv,cma \
    "${rank[@]}" "${client[@]}" : \
    "${rank[@]}" "${server[@]}" ${dealer:+: "${rank[@]}" "${dealer[@]}"} 3>&1 4>&2 >"$ends" 2>&1 || status=$?
grep -v 'Return code = ' "$ends" >&2 || true
if grep -q 'signaled with' "$ends"; then
    echo "hybridface: a rank has been killed" >&2
    status=2
fi
if [ "$status" -gt 1 ] || grep -q 'expired' "$ends"; then
    status=2
fi
exit "$status"
