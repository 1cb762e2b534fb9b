# shellcheck shell=sh disable=SC2034,SC2154 # home_STORE, names_of_aufs, options and the functions are set before
# The layers of a mounter as plain directories, by mkdir, mount, tar and setfattr.
# named STORE LAYER: the directory of a layer, which is a number, in $place
named() {
    eval "home=\$home_$1"
    key=$(printf %s "$2" | od -An -tx1 | tr -d ' \n')
    [ -f "$home/ids/$key" ] || { echo "there is no such layer: $2"; return 1; }
    place=$(cat "$home/ids/$key")
}
open_home() {
    eval "home=\$home_$1"
    mkdir -p "$home/ids" "$home/empty"
}
# create STORE LAYER [PARENT]
create() {
    [ -z "${3:-}" ] || named "$1" "$3" || return
    above=${3:+$place}
    eval "home=\$home_$1"
    key=$(printf %s "$2" | od -An -tx1 | tr -d ' \n')
    if [ -z "$2" ] || [ -f "$home/ids/$key" ]; then echo "the id is taken: $2"; return 1; fi
    number=$(($(cat "$home/last" 2>/dev/null || echo 0) + 1))
    echo "$number" >"$home/last"
    mkdir -p "$home/$number/diff" "$home/$number/work" "$home/$number/merged"
    chmod 0755 "$home/$number/diff"
    lowers_of=${above:+$above/diff}
    [ -z "$above" ] || lowers_of=$lowers_of$(sed -e 's/^/:/' "$home/$above/lowers" | grep -v '^:$' || true)
    printf '%s\n' "$lowers_of" >"$home/$number/lowers"
    echo "$above" >"$home/$number/parent"
    echo "$number" >"$home/ids/$key"
}
remove() {
    named "$1" "$2" || return
    for one in "$home"/[0-9]*/parent; do
        [ "$(cat "$one")" != "$place" ] || { echo "the layer has children: $2"; return 1; }
    done
    rm -rf --one-file-system "${home:?}/$place" "$home/ids/$key"
}
exists() { if named "$1" "$2" >/dev/null; then echo yes; else echo no; fi; }
# has_children: whether a layer is built on that in $place
has_children() {
    for one in "$home"/[0-9]*/parent; do
        [ "$(cat "$one")" != "$place" ] || return 0
    done
    return 1
}
# get STORE LAYER: mounts it, from the home, and prints where
get() {
    named "$1" "$2" || return
    merged=$home/$place/merged
    if mountpoint -q "$merged"; then
        echo again >>"$home/$place/gets"
        printf '%s\n' "$merged"
        return
    fi
    lowers=$(cat "$home/$place/lowers")
    upper=$place/diff
    work_of=$place/work
    if has_children; then # an upper directory must not be a lower of another mount
        rm -rf "${home:?}/$place/view"
        mkdir -p "$home/$place/view/diff" "$home/$place/view/work"
        chmod --reference="$home/$place/diff" "$home/$place/view/diff"
        chown --reference="$home/$place/diff" "$home/$place/view/diff"
        touch -r "$home/$place/diff" "$home/$place/view/diff"
        lowers=$upper${lowers:+:$lowers}
        upper=$place/view/diff
        work_of=$place/view/work
    fi
    lowers=${lowers:-empty}
    each_lower=lowerdir+=$(printf %s "$lowers" | sed -e 's/:/,lowerdir+=/g')
    directories=upperdir=$upper,workdir=$work_of$options
    [ "$(sed -n 's/^ *0 *0 *4294967295$/all/p' /proc/self/uid_map)" = all ] || directories=$directories,userxattr
    (cd "$home" && mount_it) >&2 || return
    printf '%s\n' "$merged"
}
put() {
    named "$1" "$2" || return
    merged=$home/$place/merged
    if [ -s "$home/$place/gets" ]; then sed -i 1d "$home/$place/gets"; return; fi
    mountpoint -q "$merged" || { echo "the layer is not mounted: $2"; return 1; }
    # a FUSE mount may be in use for a moment, by whoever looks at new mounts
    (cd "$home" && unmount_it) || return
    rm -rf "${home:?}/$place/work/work/incompat"
}
# attribute_of: the name of overlay's attribute for opaque directories
attribute_of() {
    case ,$options, in *,userxattr,*) echo user.overlay.opaque; return ;; esac
    if [ "$(sed -n 's/^ *0 *0 *4294967295$/all/p' /proc/self/uid_map)" = all ]; then
        echo trusted.overlay.opaque
    else
        echo user.overlay.opaque
    fi
}
# packed FILE: the working directory as an archive
packed() {
    find . -mindepth 1 -printf '%P\0' | sort -z | tar --format=pax --xattrs --xattrs-include='user.*' \
        --xattrs-include='security.capability' --xattrs-exclude='user.overlay.*' --numeric-owner --no-recursion \
        --null -T - -cf "$1"
}
# diff_of STORE LAYER PARENT FILE: the upper directory as an archive, with the whiteouts of archives
diff_of() {
    named "$1" "${3:-$2}" || return
    parent=${3:+$place}
    named "$1" "$2" || return
    if [ -z "$3" ] && [ -s "$home/$place/lowers" ] && [ -n "$(cat "$home/$place/parent")" ]; then # the whole tree
        get "$1" "$2" >/dev/null || return
        (cd "$home/$place/merged" && packed "$4") || return
        put "$1" "$2"
        return
    fi
    [ "$(cat "$home/$place/parent")" = "$parent" ] || { echo "a diff against another layer is not scripted"; return 1; }
    rm -rf "${home:?}/copy"
    cp -a "$home/$place/diff" "$home/copy"
    (
        cd "$home/copy" || exit
        find . -mindepth 1 -type d -exec sh -c 'for one; do
            if getfattr -h -m "overlay.opaque\$" "$one" 2>/dev/null | grep -q opaque; then
                touch -r "$one" ../stamp; : >"$one/.wh..wh..opq"; touch -r ../stamp "$one"
            fi
        done' sh {} +
        find . -type c -exec sh -c 'for one; do
            if [ "$(stat -c %t:%T "$one")" = 0:0 ]; then
                above=${one%/*}; touch -r "$above" ../stamp; rm "$one"; : >"$above/.wh.${one##*/}"
                touch -r ../stamp "$above"
            fi
        done' sh {} +
        find . -mindepth 1 -depth -type d -exec sh -c 'for one; do
            for name in trusted.overlay.opaque trusted.overlay.origin trusted.overlay.impure user.overlay.opaque \
                user.overlay.origin user.overlay.impure; do setfattr -h -x "$name" "$one" 2>/dev/null; done; true
        done' sh {} +
        packed "$4"
    )
    rm -rf "${home:?}/copy" "$home/stamp"
}
# apply STORE LAYER FILE: the archive unpacked into the upper directory, with the whiteouts of overlay
apply() {
    named "$1" "$2" || return
    if mountpoint -q "$home/$place/merged" || has_children; then echo "the layer is in use: $2"; return 1; fi
    tar --xattrs --xattrs-include='user.*' --xattrs-include='security.capability' --numeric-owner --same-owner -p \
        -C "$home/$place/diff" -xf "$3" || return
    attribute=$(attribute_of)
    export attribute
    (
        cd "$home/$place/diff" || exit
        find . -name '.wh.*' -exec sh -c 'for one; do
            above=${one%/*}; name=${one##*/.wh.}; touch -r "$above" ../stamp; rm "$one"
            if [ "$name" = .wh..opq ]; then setfattr -n "$attribute" -v y "$above"
            elif [ ! -e "$above/$name" ] && [ ! -L "$above/$name" ]; then mknod "$above/$name" c 0 0; fi
            touch -r ../stamp "$above"
        done' sh {} +
    )
    rm -f "$home/$place/stamp"
}
