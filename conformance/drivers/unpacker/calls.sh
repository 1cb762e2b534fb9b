# shellcheck shell=sh disable=SC2154 # work, name, tag, architecture, result and source_of_image are set before
# The calls of a command that unpacks images.
# A layer is a directory with its parent's name and its archives; its tree is unpacked by up_get.
up_place() { eval "printf %s \"\$up_$1/layers/layer-$2\""; }
up_create() { place=$(up_place "$1" "$2") && mkdir "$place" && printf %s "$3" >"$place/parent"; }
up_remove() { rm -rf --one-file-system "$(up_place "$1" "$2")"; }
up_exists() { if [ -d "$(up_place "$1" "$2")" ]; then echo yes; else echo no; fi; }
up_apply() {
    place=$(up_place "$1" "$2")
    number=1
    while [ -e "$place/$(printf %04d "$number").tar" ]; do number=$((number + 1)); done
    cp "$3" "$place/$(printf %04d "$number").tar"
}
# up_archives STORE LAYER: the archives of the layer and of those below it, a line each, the base first
up_archives() (
    place=$(up_place "$1" "$2")
    parent=$(cat "$place/parent")
    [ -z "$parent" ] || up_archives "$1" "$parent"
    for one in "$place"/[0-9]*.tar; do [ ! -e "$one" ] || echo "$one"; done
)
# up_image DIRECTORY ARCHIVE...: an OCI image layout, or a docker-archive, of these layers; sets image
up_image() {
    up_work=$1
    shift
    blobs=$up_work/image/blobs/sha256
    mkdir -p "$blobs" "$up_work/docker"
    diffs='' layers='' files='' below='' index=1
    for one; do
        digest=$(sha256sum <"$one")
        digest=${digest%% *}
        cp "$one" "$blobs/$digest"
        diffs="$diffs${diffs:+,}\"sha256:$digest\""
        layers="$layers${layers:+,}$(up_descriptor layer.v1.tar "$one")"
        id=$(printf '%064d' "$index")
        mkdir "$up_work/docker/$id"
        cp "$one" "$up_work/docker/$id/layer.tar"
        printf 1.0 >"$up_work/docker/$id/VERSION"
        printf '{"id":"%s","os":"linux"%s}' "$id" "$below" >"$up_work/docker/$id/json"
        below=",\"parent\":\"$id\""
        files="$files${files:+,}\"$id/layer.tar\""
        index=$((index + 1))
    done
    printf '{"architecture":"%s","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[%s]}}' \
        "$architecture" "$diffs" >"$up_work/config"
    if [ "$source_of_image" = docker-archive ]; then
        cp "$up_work/config" "$up_work/docker/config.json"
        printf '[{"Config":"config.json","RepoTags":["%s:%s"],"Layers":[%s]}]' "$name" "$tag" "$files" \
            >"$up_work/docker/manifest.json"
        image=$up_work/image.tar
        printf '{"%s":{"%s":"%s"}}' "$name" "$tag" "$id" >"$up_work/docker/repositories"
        (cd "$up_work/docker" && tar -cf "$image" manifest.json repositories config.json [0-9]*)
        return
    fi
    image=$up_work/image
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s]}' \
        "$(up_descriptor config.v1+json "$up_work/config")" "$layers" >"$up_work/manifest"
    for one in config manifest; do
        digest=$(sha256sum <"$up_work/$one")
        cp "$up_work/$one" "$blobs/${digest%% *}"
    done
    described=$(up_descriptor manifest.v1+json "$up_work/manifest")
    printf '{"schemaVersion":2,"manifests":[%s,"annotations":{"org.opencontainers.image.ref.name":"%s"}}]}' \
        "${described%\}}" "$tag" >"$image/index.json"
    printf '{"imageLayoutVersion":"1.0.0"}' >"$image/oci-layout"
}
# up_descriptor KIND FILE: the descriptor of a blob
up_descriptor() {
    sum=$(sha256sum <"$2")
    printf '{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%s}' \
        "$1" "${sum%% *}" "$(($(wc -c <"$2")))"
}
# up_extract: the tree of an archive or a list that the command printed, or of a filesystem that it made
up_extract() {
    case $result in
    disk)
        mkdir "$up_work/mounted" && rm -rf --one-file-system "$up_tree" && mkdir -m 0755 "$up_tree"
        # shellcheck disable=SC2016 # words of the inner shell
        unshare --mount sh -ec '
            mount -o ro,loop,nosuid,noexec "$1/disk" "$1/mounted"
            tar -c --format=pax --numeric-owner --xattrs "--xattrs-include=*" -f "$1/result.tar" \
                -C "$1/mounted" --exclude=./lost+found .
        ' sh "$up_work" || return ;;
    names | json)
        up_skeleton "$result" "$up_work/result.tar" "$up_tree"
        return ;;
    tar) ;;
    *) return 0 ;;
    esac
    tar -x -p --numeric-owner --delay-directory-restore --xattrs '--xattrs-include=*' \
        -f "$up_work/result.tar" -C "$up_tree"
}
# up_get STORE LAYER: the path of the tree; what the command refuses is taken back
up_get() {
    store=$1
    place=$(up_place "$1" "$2")
    up_tree=$place/tree
    archives=$(up_archives "$store" "$2")
    if [ ! -e "$place/unpacked" ] || [ "$(cat "$place/unpacked")" != "$archives" ]; then
        rm -rf --one-file-system "$up_tree"
        eval "up_work=\$up_$store/work"
        rm -rf --one-file-system "$up_work"
        mkdir -p "$up_tree" "$up_work/own" "$up_work/tmp" "$up_work/run"
        chmod 0755 "$up_tree"
        echo "$archives" >"$up_work/archives"
        [ -n "$archives" ] || { archives=$up_work/empty.tar && head -c 1024 /dev/zero >"$archives"; }
        # shellcheck disable=SC2086 # a list of paths without spaces
        set -- $archives
        up_image "$up_work" "$@"
        if ! (umask 022 && up_command "$@" && up_extract) >&2; then
            last=
            for one in "$place"/[0-9]*.tar; do [ ! -e "$one" ] || last=$one; done
            [ -z "$last" ] || rm -f "$last"
            rm -rf --one-file-system "$up_tree"
            return 1
        fi
        cat "$up_work/archives" >"$place/unpacked"
    fi
    case $result in '' | tar | disk | names | json) echo "$up_tree" ;; *) echo "$up_tree/$result" ;; esac
}
