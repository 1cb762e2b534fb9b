# shellcheck shell=sh disable=SC2154 # work and verdict are set before
# What the steps of a reproducer are written with. The line @PLAIN@ stands for the function of refusals.py.
# link_of LAYER: the short name in a layer's file link; fails for what is no name of a file, as it may lead anywhere
link_of() { name=$(cat "$1/link") || return; case $name in '' | . | .. | */*) return 1 ;; esac; printf %s "$name"; }
# must COMMAND: a step that was done when this was recorded
must() { say "+ $*"; "$@" >"$work/.said" 2>&1 || cannot_tell "this was done before, and fails now: $(cat "$work/.said")"; }
# may COMMAND: a step that was refused then, and may be
may() { say "+ $*"; "$@" >"$work/.said" 2>&1 || say "  refused: $(cat "$work/.said")"; }
# contained PATH STORES: whether it is a directory below that of one of these stores, all symlinks resolved
contained() {
    case $1 in /*) ;; *) return 1 ;; esac
    resolved=$(cd -P "$1" 2>/dev/null && pwd -P) || return 1
    for one_store in $2; do
        case $resolved in "$work/$one_store"/?* | "$work/mnt/$one_store"/?*) return 0 ;; esac
    done
    return 1
}
# tree STORES COMMAND: a step that prints where a tree is; nothing is done in one that is not in these stores
tree() {
    tree_stores=$1
    shift
    say "+ $*"
    tree=$("$@" 2>"$work/.said") || cannot_tell "this was done before, and fails now: $tree$(cat "$work/.said")"
    contained "$tree" "$tree_stores" || cannot_tell "this path is not below the directory of the store: '$tree'"
}
# answer COMMAND: a step that prints what is to be looked at
answer() { say "+ $*"; "$@" >"$work/.answer" 2>"$work/.said" || cannot_tell "this was done before, and fails now: $(cat "$work/.said")"; }
# failed TEXT: an operation on a tree that was done when this was recorded
failed() { cannot_tell "this was done before, and fails now: $*"; }
# plain: a refusal without its paths, numbers and quotes, which are others in each run
@PLAIN@
# same_refusal TEXT: goes on if the driver refused the last step in the words that were recorded
same_refusal() {
    case $(plain <"$work/.said") in
    *"$1"*) ;;
    *) cannot_tell "another refusal than the one that was recorded: $(cat "$work/.said")" ;;
    esac
}
