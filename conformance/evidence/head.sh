# shellcheck shell=sh disable=SC2034 # verdict is read by the reproducer
# The beginning of every reproducer: what it says and how it ends, and mounts of its own.
set -eu
PATH=${PATH:+$PATH:}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
export LC_ALL=C
verdict=
say() {
    case $* in
    *[[:cntrl:]]*) printf '%s\n' "$*" | tr -d '\000-\010\013-\037\177' ;;
    *) printf '%s\n' "$*" ;;
    esac
}
deviates() { say "DEVIATES: $*"; verdict=1; exit 1; }
cannot_tell() { say "CANNOT TELL: $*"; verdict=2; exit 2; }

# Mounts of our own, gone with this process.
if [ -z "${REPRO_INSIDE:-}" ]; then
    command -v unshare >/dev/null || cannot_tell 'there is no command unshare (util-linux)'
    export REPRO_INSIDE=1
    if [ "$(id -u)" = 0 ]; then exec unshare --mount --propagation private sh "$0"; fi
    exec unshare --map-root-user --mount --propagation private sh "$0"
fi
