# shellcheck shell=sh disable=SC2154,SC2034 # work is set before; df_command reads df_lower and df_upper
# The calls of a command that compares two directories: a layer is a directory with its whole tree.
df_place() { eval "printf %s \"\$df_$1/layers/layer-$2\""; }
df_create() {
    place=$(df_place "$1" "$2")
    mkdir "$place" || return
    if [ -n "$3" ]; then cp -a -- "$(df_place "$1" "$3")/tree" "$place/tree"; else mkdir -m 0755 "$place/tree"; fi
}
df_remove() { rm -rf --one-file-system "$(df_place "$1" "$2")"; }
df_exists() { if [ -d "$(df_place "$1" "$2")" ]; then echo yes; else echo no; fi; }
df_get() { echo "$(df_place "$1" "$2")/tree"; }
# df_begin STORE: an empty directory for the command
df_begin() {
    eval "df_work=\$df_$1/work"
    rm -rf --one-file-system "$df_work"
    mkdir -p "$df_work/own" "$df_work/tmp" "$df_work/run" "$df_work/empty"
}
# df_diff STORE LAYER PARENT FILE
df_diff() {
    df_begin "$1"
    df_upper=$(df_place "$1" "$2")/tree
    df_lower=$df_work/empty
    [ -z "$3" ] || df_lower=$(df_place "$1" "$3")/tree
    df_archive=$4
    rm -f "$df_archive"
    df_command >&2 && [ -f "$df_archive" ]
}
# df_apply STORE LAYER FILE: whiteouts first, then what replaces another type, then all entries, by tar
df_apply() {
    df_begin "$1"
    df_tree=$(df_place "$1" "$2")/tree
    mkdir "$df_work/staged"
    touch -r "$df_tree" "$df_work/stamp"
    tar -t -f "$3" >/dev/null || return
    tar -x -p --numeric-owner -f "$3" -C "$df_work/staged" 2>/dev/null || true # links to what is below
    export df_tree
    (
        cd "$df_work/staged" || exit
        find . -name '.wh.*' -exec sh -c 'for one; do
            above=${one%/*}; name=${one##*/.wh.}
            if [ "$name" != .wh..opq ]; then rm -rf --one-file-system "$df_tree/$above/$name"
            elif [ -d "$df_tree/$above" ]; then find "$df_tree/$above" -mindepth 1 -delete; fi
        done' sh {} +
        find . -mindepth 1 ! -type d ! -name '.wh.*' -exec sh -c 'for one; do
            if [ -d "$df_tree/$one" ] && [ ! -L "$df_tree/$one" ]; then rm -rf --one-file-system "$df_tree/$one"; fi
        done' sh {} +
        find . -mindepth 1 -type d -exec sh -c 'for one; do
            if [ -L "$df_tree/$one" ] || { [ -e "$df_tree/$one" ] && [ ! -d "$df_tree/$one" ]; }; then
                rm -f "$df_tree/$one"
            fi
        done' sh {} +
    )
    tar -x -p --numeric-owner --delay-directory-restore --xattrs '--xattrs-include=user.*' \
        --xattrs-include=security.capability --exclude='.wh.*' --exclude=. -f "$3" -C "$df_tree" || return
    touch -r "$df_work/stamp" "$df_tree"
}
