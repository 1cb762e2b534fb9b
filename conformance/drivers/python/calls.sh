# shellcheck shell=sh disable=SC2154,SC2034 # work, module and name are set before, driver_pid is read after
# The calls of a Python class, by a process that has it open.
mkfifo "$work/calls" "$work/answers"
"$PYTHON" "$work/driver.py" "$module" "$name" <"$work/calls" >"$work/answers" 2>"$work/driver.log" &
driver_pid=$!
exec 8>"$work/calls" 9<"$work/answers"
# driver CALL: one call, a line of JSON; prints the answer; exit status 1 if the driver raised an exception
driver() {
    printf '%s\n' "$1" >&8 || return 2
    read -r status form answer <&9 || { echo "the driver's process ended: $(cat "$work/driver.log")"; return 2; }
    case $form in text) printf %s "$answer" ;; *) printf %s "$answer" | base64 -d ;; esac
    return "$status"
}
