# shellcheck shell=sh disable=SC2154 # work, binary, ctr, snapshotter, unpack and imports are set before
# The calls of a snapshotter, by ctr.
# The daemon looks for programs itself, so it needs a PATH also where this shell has its own.
export PATH="${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}"
# ctr 2 unpacks with the default snapshotter only, unless it does the import itself.
local_import=
if "$ctr" images import --help 2>&1 | grep -q -e '--local'; then
    [ "$unpack" = transfer ] || local_import=--local
elif [ "$unpack" = transfer ]; then
    echo "ctr of containerd 2 imports by the transfer service; this one does not" && exit 2
fi
case $(uname -m) in
x86_64) architecture=amd64 ;; aarch64) architecture=arm64 ;; i?86) architecture=386 ;; armv*) architecture=arm ;;
*) architecture=$(uname -m) ;;
esac
# start STORE DIRECTORY: a containerd of its own for each store
start() {
    mkdir -p "$work/$1.run"
    cat >"$work/$1.toml" <<END
version = 2
$imports
root = '$2/root'
state = "$work/$1.run/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[grpc]
address = "$work/$1.run/sock"
[ttrpc]
address = "$work/$1.run/sock.ttrpc"
END
    "$binary" --config "$work/$1.toml" >"$work/$1.log" 2>&1 &
    echo $! >"$work/$1.pid"
    until "$ctr" --address "$work/$1.run/sock" version >/dev/null 2>&1; do
        kill -0 "$(cat "$work/$1.pid")" 2>/dev/null || { cat "$work/$1.log"; return 1; }
        sleep 0.05
    done
}
# ct STORE VERB...: ctr snapshots, with this snapshotter
ct() {
    store=$1
    shift
    "$ctr" --address "$work/$store.run/sock" --namespace repro snapshots --snapshotter "$snapshotter" "$@"
}
# there STORE KEY
there_is() { ct "$1" info "$2" >/dev/null 2>&1; }
# create STORE LAYER [PARENT]: a snapshot that others are built on has to be committed
create() {
    if there_is "$1" "active/$2" || there_is "$1" "layer/$2"; then echo "there is a layer $2 already"; return 1; fi
    if [ -n "${3-}" ] && there_is "$1" "active/$3"; then ct "$1" commit "layer/$3" "active/$3" || return 1; fi
    if [ -z "${3-}" ]; then ct "$1" prepare "active/$2" >/dev/null && return; return 1; fi
    echo "$3" >"$work/$1.parent-of-$2"
    ct "$1" prepare "active/$2" "layer/$3" >/dev/null
}
# key STORE LAYER: a snapshot that can be mounted to see a layer
key() {
    if there_is "$1" "active/$2"; then echo "active/$2"; return; fi
    there_is "$1" "view/$2" || ct "$1" view "view/$2" "layer/$2" >/dev/null || return 1
    echo "view/$2"
}
get() {
    seen=$(key "$1" "$2") || return 1
    mkdir -p "$work/mnt/$1/$2"
    if ! mountpoint -q "$work/mnt/$1/$2"; then
        # what it prints is the command to mount it with, without quotes
        mounting=$(ct "$1" mounts "$work/mnt/$1/$2" "$seen") || return 1
        mounting=$(printf '%s\n' "$mounting" | sed 's|[^A-Za-z0-9_.,:=/ -]|\\&|g')
        sh -c "$mounting" || return 1
    fi
    echo "$work/mnt/$1/$2"
}
put() { umount "$work/mnt/$1/$2"; }
remove() { if there_is "$1" "active/$2"; then ct "$1" rm "active/$2"; else ct "$1" rm "layer/$2"; fi; }
exists() { if there_is "$1" "active/$2" || there_is "$1" "layer/$2"; then echo yes; else echo no; fi; }
# name STORE LAYER: the snapshot of a layer, committed or not
name() { if there_is "$1" "active/$2"; then echo "active/$2"; else echo "layer/$2"; fi; }
# diff_of STORE LAYER PARENT FILE
diff_of() {
    if [ -z "$3" ] && ! there_is "$1" layer/.nothing; then
        ct "$1" prepare active/.nothing >/dev/null && ct "$1" commit layer/.nothing active/.nothing || return 1
    fi
    left=$(name "$1" "${3:-.nothing}")
    right=$(name "$1" "$2")
    ct "$1" diff --media-type application/vnd.oci.image.layer.v1.tar "$left" "$right" >"$4"
}
# apply STORE LAYER FILE: unpack an image of the layers below and, as its last, the archive
apply() {
    rm -rf "$work/image" && mkdir -p "$work/image/blobs/sha256" || return 1
    below=; above=$2
    while [ -f "$work/$1.parent-of-$above" ]; do above=$(cat "$work/$1.parent-of-$above"); below="$above $below"; done
    layers=; ids=; chain=; lower=
    for one in $below :; do
        if [ "$one" = : ]; then file=$3; else file="$work/$1.layer-$one.tar"; diff_of "$1" "$one" "$lower" "$file" || return 1; fi
        lower=$one
        digest=$(sha256sum <"$file" | cut -d' ' -f1)
        cp "$file" "$work/image/blobs/sha256/$digest"
        layers="$layers${layers:+,}{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"sha256:$digest\",\"size\":$(stat -c %s "$file")}"
        ids="$ids${ids:+,}\"sha256:$digest\""
        if [ -z "$chain" ]; then chain=sha256:$digest; else chain=sha256:$(printf '%s %s' "$chain" "sha256:$digest" | sha256sum | cut -d' ' -f1); fi
    done
    blob "{\"architecture\":\"$architecture\",\"os\":\"linux\",\"config\":{},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[$ids]}}"
    blob "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"sha256:$blob\",\"size\":$size},\"layers\":[$layers]}"
    printf '{"imageLayoutVersion":"1.0.0"}' >"$work/image/oci-layout"
    printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"annotations":{"io.containerd.image.name":"repro.invalid/%s:1"}}]}' "$blob" "$size" "$2" >"$work/image/index.json"
    (cd "$work/image" && tar -cf "$work/image.tar" oci-layout index.json blobs) || return 1
    "$ctr" --address "$work/$1.run/sock" --namespace repro images import $local_import --all-platforms --snapshotter "$snapshotter" "$work/image.tar" || return 1
    ct "$1" rm "active/$2" && ct "$1" prepare "active/$2" "$chain" >/dev/null
}
# blob TEXT: a file of the image, named by its digest
blob() {
    blob=$(printf %s "$1" | sha256sum | cut -d' ' -f1)
    size=$(printf %s "$1" | wc -c)
    printf %s "$1" >"$work/image/blobs/sha256/$blob"
}
