# shellcheck shell=sh disable=SC2154 # work is set before
# The calls of a plugin, by curl.
# said: the answer of the plugin; exit status 1 if it holds an error
said() {
    cat "$work/answer"
    ! grep -q '"Err": *"[^"]' "$work/answer"
}
# call STORE NAME JSON: one call of the plugin protocol
call() {
    curl -sS --max-time 300 --unix-socket "$(cat "$work/$1.socket")" -H 'Content-Type: application/json' \
        -d "$3" "http://plugin/$2" >"$work/answer" || return 1
    said
}
get() { call "$1" GraphDriver.Get "$2" >/dev/null && sed 's/.*"Dir": *"\([^"]*\)".*/\1/' "$work/answer"; }
exists() { call "$1" GraphDriver.Exists "$2" >/dev/null || return 1
    if grep -q '"Exists": *true' "$work/answer"; then echo yes; else echo no; fi; }
diff_size() { call "$1" GraphDriver.DiffSize "$2" >/dev/null && sed 's/.*"Size": *\([0-9]*\).*/\1/' "$work/answer"; }
# Kinds of changes are numbers: 0 modified, 1 added, 2 deleted; 0 and the order of keys may be left to the reader.
changes() { call "$1" GraphDriver.Changes "$2" >/dev/null || return 1
    tr '{' '\n' <"$work/answer" | grep '"Path"' | while read -r line; do
        path=$(printf %s "$line" | sed 's/.*"Path": *"\([^"]*\)".*/\1/')
        case $line in *'"Kind": 1'*|*'"Kind":1'*) echo "add $path" ;; *'"Kind": 2'*|*'"Kind":2'*) echo "delete $path" ;;
        *) echo "modify $path" ;; esac
    done; }
diff() {
    code=$(curl -sS --max-time 300 -w '%{http_code}' -o "$3" --unix-socket "$(cat "$work/$1.socket")" -H 'Content-Type: application/json' \
        -d "$2" http://plugin/GraphDriver.Diff) || return 1
    [ "$code" = 200 ] || { cat "$3"; return 1; }
}
apply() { curl -sS --max-time 300 --unix-socket "$(cat "$work/$1.socket")" -X POST -T "$3" \
    "http://plugin/GraphDriver.ApplyDiff?$2" >"$work/answer" || return 1
    said; }
