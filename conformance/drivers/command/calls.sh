# shellcheck shell=sh
# Answers of a command in the form that the last look reads.
# command_exists STATUS COMMAND...: yes or no; the command exits with STATUS if there is no such layer
command_exists() {
    absent=$1
    shift
    found=0
    said=$("$@") || found=$?
    case $found in 0) echo yes ;; "$absent") echo no ;; *) echo "$said" && return "$found" ;; esac
}
command_size() { said=$("$@") && echo "${said##*[!0-9]}"; }
command_changes() {
    said=$("$@") || return
    printf '%s\n' "$said" | sed -e 's/^[Aa][a-z]* /add /' -e 's/^[MmCc][a-z]* /modify /' -e 's/^[Dd][a-z]* /delete /' -e '/^$/d'
}
