#!/bin/sh
# Fetch a kernel's source from Debian, as far as its KVM selftests need it, and build their library.
# Usage: tools/kernel_tree.sh DIRECTORY [VERSION]   then: KVMWHY_KERNEL_TREE=DIRECTORY/linux-source-VERSION ./check tests/reproduce
# As a user with apt's sources; nothing is installed. 150 MB to fetch, 150 MB on disk.
# Exit status 4: apt's mirror does not answer, or does not have it; any other but 0 is a failure.
set -eu
directory=$1
version=${2:-6.12}
tree=linux-source-$version
mkdir -p "$directory"
cd "$directory"
if ! LC_ALL=C apt-get download -qq "$tree" 2>apt.log; then
    cat apt.log >&2
    ! grep -qE 'Failed to fetch|Could not (resolve|connect)|Unable to (connect|fetch|locate package)|404 +Not' apt.log || exit 4
    exit 1
fi
dpkg-deb --fsys-tarfile "$tree"_*.deb | tar xOf - "./usr/src/$tree.tar.xz" >"$tree.tar.xz"
rm -f "$tree"_*.deb
tar xJf "$tree.tar.xz" "$tree/Makefile" "$tree/Kbuild" "$tree/arch/x86" "$tree/arch/Kconfig" "$tree/include" \
    "$tree/init/Kconfig" "$tree/scripts" "$tree/tools" "$tree/usr"
rm -f "$tree.tar.xz"
make -s -C "$tree" ARCH=x86 headers
echo "$directory/$tree"
