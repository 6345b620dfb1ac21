#!/usr/bin/env bash
# Client and server on two machines, over ssh. docs/BETWEEN_MACHINES.md has it step by step.
#   launch/several_machines.sh HOSTS A.jpg B.jpg [options of `hybridface party`]
#   launch/several_machines.sh HOSTS --tasks FILE [--key FILE] --gallery /FILE [options]
# HOSTS names the hosts, one a line: the client's, the server's (see hosts.example). Photos, tasks and key lie on the
# client's host, weights and gallery on the server's; every option goes to the ranks that need it. Run it on the
# client's host. `hybridface` is on PATH on each, or set HYBRIDFACE to its path there. CORRELATIONS=dealer, or
# --correlations dealer, adds a dealer on a third host, which must collude with neither.
# MPI does not encrypt, and uses every network that the hosts share. Between organisations, name the hosts by their
# addresses in a VPN (WireGuard), and its interface, of one name on all hosts: INTERFACE=wg0.
set -euo pipefail
if [ $# -lt 3 ]; then
    sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
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
for word in "${server[@]}"; do
    case $word in
    --cache=none) ;;
    --gallery=[!/]* | --weights=[!/]* | --prepared=[!/]* | --cache=[!/]*)
        refuse "cannot tell where ${word%%=*} is on the server's host: expected a path that begins with /, got ${word#*=}"
        ;;
    esac
done
parties=$((2 + (${#dealer[@]} > 0)))
if ! [ -f "$hosts" ] || ! [ -r "$hosts" ]; then
    refuse "cannot read the host file $hosts: expected a file with one host a line, like launch/hosts.example"
fi
named=$(grep -cvE '^[[:space:]]*(#|$)' "$hosts" || true)
if [ "$named" -lt "$parties" ]; then
    refuse "cannot place $parties ranks on hosts of their own: expected $parties hosts in $hosts, one a line, got $named"
fi
if [ -n "${INTERFACE:-}" ]; then
    network=(-iface "$INTERFACE" -genv UCX_NET_DEVICES "$INTERFACE")
else
    network=()
    echo "$(basename "$0"): INTERFACE is not set: what the ranks send may take any network that the hosts share" >&2
fi
# A rank that dies before it has joined MPI would leave the others waiting; end all after so many seconds.
export MPIEXEC_TIMEOUT="${MPIEXEC_TIMEOUT:-3600}"
# Only the client's host need have the folder that this is run in; and its environment is nobody else's business.
exec mpiexec -f "$hosts" -ppn 1 -genvlist PATH,LANG,LC_ALL,UCX_TLS -genv OMP_NUM_THREADS 1 "${network[@]}" \
    -n 1 "$program" party "${client[@]}" : \
    -n 1 -wdir / "$program" party "${server[@]}" ${dealer:+: -n 1 -wdir / "$program" party "${dealer[@]}"}
