# Functions for the scripts in this folder, which source this file.
#
# Sort the words of a command line by rank, into the arrays client, server and dealer.
#   sort_words [A.jpg B.jpg] [options of `hybridface party`]
# Options that must be the same at all ranks go to all of them. The server's options go to the server, and the rest goes
# to the client. The array dealer is empty without --correlations dealer (or CORRELATIONS=dealer). Each party gets its
# own subfolder of --prepared.
sort_words() {
    local name all=() both=() correlations=${CORRELATIONS:-ot}
    client=() server=() dealer=()
    while [ $# -gt 0 ]; do
        name=${1%%=*}
        case $name in
        --mode | --model | --reveal | --threshold | --timeout | --link | --max-answers | --correlations | \
            --gallery | --client-name | --cache | --weights | --prepared)
            if [ "$name" = "$1" ]; then
                [ $# -gt 1 ] || refuse "expected a value after $name, got none"
                set -- "$name=$2" "${@:3}"
            fi
            ;;
        esac
        case $name in
        --correlations) correlations=${1#*=} ;;
        --mode | --timeout | --link | --events) all+=("$1") ;;
        --model | --reveal | --threshold | --max-answers) both+=("$1") ;;
        --gallery | --client-name | --cache | --limits | --no-limits | --new-gallery) server+=("$1") ;;
        --weights) client+=("$1") server+=("$1") ;;
        --prepared) client+=("$1/client") server+=("$1/server") ;;
        --) break ;;
        *) client+=("$1") ;;
        esac
        shift
    done
    all+=(--correlations "$correlations")
    client=(client "${all[@]}" "${both[@]}" "${client[@]}" "$@")
    server=(server "${all[@]}" "${both[@]}" "${server[@]}")
    if [ "$correlations" = dealer ]; then
        dealer=(dealer "${all[@]}")
    fi
}

# Print one line, and exit with the status of an error.
refuse() {
    echo "$(basename "$0"): $1" >&2
    exit 2
}

# Check that a program exists, before anything starts.
need() {
    command -v "$1" >/dev/null || refuse "cannot find the program $1: install hybridface (README.md), or put its environment's bin folder on PATH"
}
