#!/usr/bin/env bash
# Run client and server on two machines, over ssh. Start this on the client's host. Guide: docs/BETWEEN_MACHINES.md.
#   launch/several_machines.sh HOSTS A.jpg B.jpg [options of `hybridface party`]
#   launch/several_machines.sh HOSTS --tasks FILE [--key FILE] --gallery /FILE [options]
# HOSTS is a file with one host per line: the client's, then the server's (see hosts.example). Photos, tasks and key are
# on the client's host; weights and gallery are on the server's. Every option goes to the ranks that need it. Put
# `hybridface` on PATH on every host, or set HYBRIDFACE to its path there. CORRELATIONS=dealer, or --correlations
# dealer, adds a dealer on a third host. The dealer must collude with neither party.
# MPI encrypts nothing, and it uses every network that the hosts share. Between organisations, name the hosts by their
# addresses in a VPN (WireGuard), and set INTERFACE to the VPN's interface, for example INTERFACE=wg0. The interface
# must have the same name on all hosts.
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
    refuse "cannot read the host file $hosts: expected a file with one host per line, like launch/hosts.example"
fi
named=$(grep -cvE '^[[:space:]]*(#|$)' "$hosts" || true)
if [ "$named" -lt "$parties" ]; then
    refuse "cannot place $parties ranks on separate hosts: expected $parties hosts in $hosts, one per line, got $named"
fi
if [ -n "${INTERFACE:-}" ]; then
    network=(-iface "$INTERFACE" -genv UCX_NET_DEVICES "$INTERFACE")
else
    network=()
    echo "$(basename "$0"): INTERFACE is not set: the ranks' messages may take any network that the hosts share" >&2
fi
# If a rank dies before it has joined MPI, the others wait for it. So mpiexec ends all ranks after this many seconds.
export MPIEXEC_TIMEOUT="${MPIEXEC_TIMEOUT:-3600}"
# The current folder need exist only on the client's host. The other hosts get only these variables of its environment.
exec mpiexec -f "$hosts" -ppn 1 -genvlist PATH,LANG,LC_ALL,UCX_TLS -genv OMP_NUM_THREADS 1 "${network[@]}" \
    -n 1 "$program" party "${client[@]}" : \
    -n 1 -wdir / "$program" party "${server[@]}" ${dealer:+: -n 1 -wdir / "$program" party "${dealer[@]}"}
