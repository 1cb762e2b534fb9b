#!/bin/sh
# OVL-LIFE-CREATE: A created layer exists, shows its parent's tree, and is empty without a parent.
#
# the driver refused a step that it must do: InvalidOperation: [<class 'decimal.ConversionSyntax'>]
#
# Recorded with python:decimal:Decimal 1.70 on Linux 6.18.44-fc-v657, by overlay-conformance 0.2.0.
# Ends with 1 if the deviation is seen, 0 if it is not, and 2 if that cannot be told. Run it as root.
set -u
export LC_ALL=C
say() { printf '%s\n' "$*"; }
deviates() { say "DEVIATES: $*"; exit 1; }
cannot_tell() { say "CANNOT TELL: $*"; exit 2; }

# Mounts of our own, gone with this process.
if [ -z "${REPRO_INSIDE:-}" ]; then
    command -v unshare >/dev/null || cannot_tell 'there is no command unshare (util-linux)'
    export REPRO_INSIDE=1
    if [ "$(id -u)" = 0 ]; then exec unshare --mount --propagation private sh "$0"; fi
    exec unshare --map-root-user --mount --propagation private sh "$0"
fi

for command in "${PYTHON:-python3}"; do
    command -v "$command" >/dev/null || cannot_tell "there is no command $command"
done
work=$(mktemp -d) || exit 2
cd /
mount --bind "$work" "$work" || exit 2
if [ "$(stat -f -c %T "$work")" = overlayfs ]; then mount -t tmpfs none "$work" || exit 2; fi
mount --make-private "$work"
cleanup() {
    trap '' EXIT
    exec 8>&- 9<&-
    kill "$driver_pid" 2>/dev/null
    wait "$driver_pid" 2>/dev/null
    umount -R -l "$work" 2>/dev/null
    umount -l "$work" 2>/dev/null
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 2' HUP INT TERM
# must COMMAND: a step that was done when this was recorded
must() { say "+ $*"; "$@" >"$work/.said" 2>&1 || cannot_tell "this was done before, and fails now: $(cat "$work/.said")"; }
# may COMMAND: a step that was refused then, and may be
may() { say "+ $*"; "$@" >"$work/.said" 2>&1 || say "  refused: $(cat "$work/.said")"; }
# tree COMMAND: a step that prints where a tree is
tree() { say "+ $*"; tree=$("$@" 2>"$work/.said") || cannot_tell "this was done before, and fails now: $tree$(cat "$work/.said")"; }
# answer COMMAND: a step that prints what is to be looked at
answer() { say "+ $*"; "$@" >"$work/.answer" 2>"$work/.said" || cannot_tell "this was done before, and fails now: $(cat "$work/.said")"; }
# did TEXT: an operation on a tree, which is in the line before
did() { [ "$1" = 0 ] || cannot_tell "this was done before, and fails now: $2"; say "  $2"; }

: "${PYTHON:=python3}"
cat >"$work/driver.py" <<'END_OF_DRIVER'
# Opens decimal:Decimal, does one call for each line on standard input, and answers with one line.
import base64, importlib, json, shutil, sys
factory = getattr(importlib.import_module("decimal"), "Decimal")
drivers, asked, out = {}, {}, sys.stdout
sys.stdout = sys.stderr


def do(store, verb, words):
    if verb == "open":
        asked[store] = words
        drivers[store] = factory(words["home"], **words["options"])
        return ""
    driver = drivers[store]
    if verb == "reopen":
        if hasattr(driver, "close"):
            driver.close()
        return do(store, "open", asked[store])
    if verb == "close":
        driver.cleanup()
        return driver.close() if hasattr(driver, "close") else ""
    layer, parent = words.get("layer", ""), words.get("parent", "")
    if verb == "create" and words.get("options") is not None:
        return driver.create_read_write(layer, parent, words["options"])
    if verb == "create":
        return driver.create(layer, parent)
    if verb == "get":
        return driver.get(layer, words["label"]) if words.get("label") else driver.get(layer)
    if verb == "diff":
        with driver.diff(layer, parent) as stream, open(words["archive"], "wb") as file:
            shutil.copyfileobj(stream, file)
        return ""
    if verb == "apply":
        with open(words["archive"], "rb", buffering=0) as file:
            return driver.apply_diff(layer, parent, file)
    if verb == "changes":
        found = driver.changes(layer, parent)
        return "\n".join(f"{one.kind.name.lower()} {one.path.decode(errors='backslashreplace')}" for one in found)
    if verb == "exists":
        return "yes" if driver.exists(layer) else "no"
    if verb == "diff-size":
        return driver.diff_size(layer, parent)
    if verb in ("status", "metadata"):
        return dict(driver.status() if verb == "status" else driver.metadata(layer))
    return getattr(driver, verb)(layer)


for line in sys.stdin:
    call = json.loads(line)
    try:
        said, status = do(call.pop("store"), call.pop("verb"), call), 0
    except Exception as error:
        said, status = f"{type(error).__name__}: {error}", 1
    text = "" if said is None else str(said)
    print(status, base64.b64encode(text.encode(errors="surrogateescape")).decode(), file=out, flush=True)
END_OF_DRIVER
mkfifo "$work/calls" "$work/answers"
"$PYTHON" "$work/driver.py" <"$work/calls" >"$work/answers" 2>"$work/driver.log" &
driver_pid=$!
exec 8>"$work/calls" 9<"$work/answers"
# driver CALL: one call, a line of JSON; prints the answer, ends with 1 if the driver raised something
driver() {
    printf '%s\n' "$1" >&8 || return 2
    read -r status answer <&9 || { echo "the driver's process ended: $(cat "$work/driver.log")"; return 2; }
    printf %s "$answer" | base64 -d
    return "$status"
}

# The steps

# What is wrong in the end
say + "$(printf 'driver \047{"store": "store", "verb": "open", "home": "\047"$work"\047/store/overlay", "options": {}}\047')"
if ! driver '{"store": "store", "verb": "open", "home": "'"$work"'/store/overlay", "options": {}}' >"$work/.said" 2>&1; then
    deviates "this should be done, and is refused: $(cat "$work/.said")"
fi
say 'not seen: the driver does as it should'
exit 0
