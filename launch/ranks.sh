# Sorts the words of a command line into those of each rank; the scripts beside it source this.
#   sort_words [A.jpg B.jpg] [options of `hybridface party`]
# Options that all ranks must have alike go to all of them, the server's options to the server, and the rest to the
# client. Sets the arrays client, server and dealer; without --correlations dealer (or CORRELATIONS=dealer) the last is
# empty. Each party has its own part of the folder --prepared.
sort_words() {
    local name all=() correlations=${CORRELATIONS:-ot}
    client=() server=() dealer=()
    while [ $# -gt 0 ]; do
        name=${1%%=*}
        case $name in
        --mode | --model | --reveal | --timeout | --link | --max-answers | --correlations | \
            --gallery | --client-name | --cache | --weights | --prepared)
            if [ "$name" = "$1" ]; then
                [ $# -gt 1 ] || refuse "expected a value after $name, got none"
                set -- "$name=$2" "${@:3}"
            fi
            ;;
        esac
        case $name in
        --correlations) correlations=${1#*=} ;;
        --mode | --model | --reveal | --timeout | --link | --max-answers | --events) all+=("$1") ;;
        --gallery | --client-name | --cache | --limits | --no-limits | --new-gallery) server+=("$1") ;;
        --weights) client+=("$1") server+=("$1") ;;
        --prepared) client+=("$1/client") server+=("$1/server") ;;
        --) break ;;
        *) client+=("$1") ;;
        esac
        shift
    done
    all+=(--correlations "$correlations")
    client=(client "${all[@]}" "${client[@]}" "$@")
    server=(server "${all[@]}" "${server[@]}")
    if [ "$correlations" = dealer ]; then
        dealer=(dealer "${all[@]}")
    fi
}

# Prints one line, and ends with the status of an error.
refuse() {
    echo "$(basename "$0"): $1" >&2
    exit 2
}

# Sees that there is a program, before anything starts.
need() {
    command -v "$1" >/dev/null || refuse "cannot find the program $1: install hybridface (README.md), or put its environment's bin folder on PATH"
}
