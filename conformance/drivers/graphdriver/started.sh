# shellcheck shell=sh disable=SC2154 # work and init_STORE are set before
# A plugin that the script starts.
# start STORE: a plugin of its own for each store
start() {
    echo "$work/$1.sock" >"$work/$1.socket"
    rm -f "$work/$1.sock"
    plugin "$work/$1.sock" >"$work/$1.log" 2>&1 &
    echo $! >"$work/$1.pid"
    until curl -sS --unix-socket "$work/$1.sock" -d '{}' http://plugin/Plugin.Activate >/dev/null 2>&1; do
        kill -0 "$(cat "$work/$1.pid")" 2>/dev/null || { cat "$work/$1.log"; return 1; }
        sleep 0.05
    done
}
open_plugin() { start "$1" && eval "init=\$init_$1" && call "$1" GraphDriver.Init "$init"; }
reopen_plugin() { kill "$(cat "$work/$1.pid")"; wait "$(cat "$work/$1.pid")"; open_plugin "$1"; }
