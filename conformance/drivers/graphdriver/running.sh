# shellcheck shell=sh disable=SC2154 # work, socket and init_STORE are set before
# A plugin that runs already.
# start STORE: the plugin runs already
start() { echo "$socket" >"$work/$1.socket"; call "$1" Plugin.Activate '{}'; }
open_plugin() { start "$1" && eval "init=\$init_$1" && call "$1" GraphDriver.Init "$init"; }
