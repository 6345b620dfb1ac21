#!/usr/bin/env bash
# Client and server on two machines, over ssh.
#   launch/several_machines.sh HOSTS A.jpg B.jpg [options of `hybridface party`]
#   launch/several_machines.sh HOSTS --tasks FILE [--key FILE] --gallery FILE [options]
# HOSTS names the hosts, one a line: the client's, the server's (see hosts.example). Photos, tasks and key lie on the
# client's host, weights and gallery on the server's; every option goes to the ranks that need it. Run it on either.
# `hybridface` is on PATH on each, or set HYBRIDFACE to its path there. CORRELATIONS=dealer, or --correlations dealer,
# adds a dealer on a third host, which must collude with neither. docs/BETWEEN_MACHINES.md has it step by step.
# MPI does not encrypt: between organisations, run it inside a VPN (WireGuard) whose addresses HOSTS names.
set -euo pipefail
if [ $# -lt 3 ]; then
    sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")/.." && pwd)
source "$here/launch/ranks.sh"
export PATH="$here/.venv/bin:$PATH"
program=${HYBRIDFACE:-hybridface}
hosts=$1
shift
need mpiexec
sort_words "$@"
parties=$((2 + (${#dealer[@]} > 0)))
if ! [ -f "$hosts" ] || ! [ -r "$hosts" ]; then
    refuse "cannot read the host file $hosts: expected a file with one host a line, like launch/hosts.example"
fi
named=$(grep -cvE '^[[:space:]]*(#|$)' "$hosts" || true)
if [ "$named" -lt "$parties" ]; then
    refuse "cannot place $parties ranks on hosts of their own: expected $parties hosts in $hosts, one a line, got $named"
fi
# A rank that dies before it has joined MPI would leave the others waiting; end all after so many seconds.
export MPIEXEC_TIMEOUT="${MPIEXEC_TIMEOUT:-3600}"
exec mpiexec -f "$hosts" -ppn 1 -genv OMP_NUM_THREADS 1 \
    -n 1 "$program" party "${client[@]}" : \
    -n 1 "$program" party "${server[@]}" ${dealer:+: -n 1 "$program" party "${dealer[@]}"}
