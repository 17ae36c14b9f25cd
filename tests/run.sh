#!/bin/sh
# Runs the whole test suite: ./tests/run.sh [arguments for cargo test]
#
# The GPU kernels run on a software Vulkan driver. Where no Vulkan adapter is found, Mesa's is installed. A second software driver
# (SwiftShader where Chromium brings it, or the ICD file in WGRAD_SECOND_ICD) runs the operations and the fixtures again.
# WGRAD_SKIP_GPU=1 tests the CPU device alone.
set -eu
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

icd_files() {
    for folder in /usr/share/vulkan/icd.d /usr/local/share/vulkan/icd.d /etc/vulkan/icd.d "${XDG_DATA_HOME:-$HOME/.local/share}/vulkan/icd.d"; do
        find -L "$folder" -maxdepth 1 -name "$1" 2>/dev/null || true
    done
}

has_adapter() {
    [ "$(uname -s)" = Linux ] || return 0 # Metal and DX12 need no installation.
    [ -z "${VK_ICD_FILENAMES:-}${VK_DRIVER_FILES:-}" ] || return 0
    PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1' || return 1
    [ -z "$(icd_files 'lvp_icd*.json')" ] || return 0
    # Real hardware with a driver.
    ls /dev/dri/renderD* /dev/nvidiactl >/dev/null 2>&1 && [ -n "$(icd_files '*.json')" ]
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else
        echo "This needs root, and there is no sudo: $*" >&2
        exit 1
    fi
}

install_mesa() {
    say "No Vulkan adapter found: installing Mesa's software driver"
    if command -v apt-get >/dev/null; then
        as_root apt-get update
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends libvulkan1 mesa-vulkan-drivers
    elif command -v dnf >/dev/null; then
        as_root dnf install -y vulkan-loader mesa-vulkan-drivers
    elif command -v pacman >/dev/null; then
        as_root pacman -S --noconfirm --needed vulkan-icd-loader vulkan-swrast
    else
        echo "Install a Vulkan loader and Mesa's lavapipe driver with this system's package manager," >&2
        echo "or set WGRAD_SKIP_GPU=1 to test the CPU device alone." >&2
        exit 1
    fi
}

driver_version() {
    if command -v dpkg-query >/dev/null; then dpkg-query -W mesa-vulkan-drivers
    elif command -v rpm >/dev/null; then rpm -q mesa-vulkan-drivers
    elif command -v pacman >/dev/null; then pacman -Q vulkan-swrast
    fi 2>/dev/null || true
}

if [ "${WGRAD_SKIP_GPU:-0}" != 1 ]; then
    has_adapter || install_mesa
    driver_version
fi

# Without it Mesa prints an error for every device, though it needs none.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}"

say "Tests"
cargo test --release --workspace "$@"

second=${WGRAD_SECOND_ICD:-/usr/lib/chromium/vk_swiftshader_icd.json}
if [ "${WGRAD_SKIP_GPU:-0}" != 1 ] && [ -f "$second" ]; then
    say "Operations and fixtures again on the driver of $second"
    export VK_ICD_FILENAMES="$second" VK_DRIVER_FILES="$second"
    cargo test --release --workspace --test ops --test golden "$@"
fi
