# Sourced by test-neon.sh and test-wasm.sh: a Rust compiler with libraries that rustup was not asked for, from Debian.

# unpack_debian_rust TOOLS PACKAGE…: unpacks Debian's rustc-web with its own standard library, and these packages (which may
# be of arm64), below TOOLS/sysroot, and makes TOOLS/rustc. A standard library fits only the very compiler that built it.
# Package lists are kept apart: neither the system's Rust nor its list of architectures changes.
unpack_debian_rust() {
    local tools=$1
    shift
    local sources=/etc/apt/sources.list.d/debian.sources
    [ -e "$sources" ] || sources=/etc/apt/sources.list
    local apt=$tools/apt sysroot=$tools/sysroot
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/sources" "$apt/debs" "$sysroot"
    cp "$sources" "$apt/sources/"
    local options=(
        -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache"
        -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$apt/sources"
        -o APT::Architectures::=amd64 -o APT::Architectures::=arm64 -o APT::Sandbox::User=root
    )
    apt-get "${options[@]}" -q update
    local depends version llvm
    version=$(apt-cache "${options[@]}" show --no-all-versions rustc-web:amd64 | sed -n 's/^Version: \([0-9]*\.[0-9]*\).*/\1/p')
    depends=$(apt-cache "${options[@]}" show --no-all-versions "libstd-rust-web-$version:amd64" | sed -n 's/^Depends: //p')
    llvm=$(grep -o 'libllvm[0-9]*' <<<"$depends")
    (cd "$apt/debs" && apt-get "${options[@]}" -q download rustc-web:amd64 libstd-rust-web-dev:amd64 \
        "libstd-rust-web-$version:amd64" "$llvm:amd64" "$@")
    for deb in "$apt"/debs/*.deb; do
        dpkg -x "$deb" "$sysroot"
    done
    rm -rf "$apt"
    cat >"$tools/rustc" <<WRAPPER
#!/bin/sh
LD_LIBRARY_PATH='$sysroot/usr/lib/x86_64-linux-gnu' exec '$sysroot/usr/bin/rustc' "\$@"
WRAPPER
    chmod +x "$tools/rustc"
}
