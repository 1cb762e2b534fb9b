#!/bin/sh
# chmod(2) on f2fs drops the set-user-ID bit of a file in a directory with a default ACL: Linux 5.10, not 6.1.
# Root, f2fs-tools and attr. Exit status 1 if the bit is lost.
set -eu
work=$(mktemp -d)
trap 'umount "$work/mounted" || true; rm -rf "$work"' EXIT
truncate -s 128M "$work/image"
mkfs.f2fs -q "$work/image"
mkdir "$work/mounted"
mount -t f2fs -o loop "$work/image" "$work/mounted"
mkdir "$work/mounted/directory"
# user::rwx user:1234:rw- group::r-x mask::rwx other::--x
acl=0x0200000001000700ffffffff02000600d204000004000500ffffffff10000700ffffffff20000100ffffffff
setfattr -n system.posix_acl_default -v $acl "$work/mounted/directory"
: >"$work/mounted/directory/file"
chmod 4755 "$work/mounted/directory/file"
mode=$(stat -c %a "$work/mounted/directory/file")
echo "$(uname -r): mode $mode, expected 4755"
test "$mode" = 4755
