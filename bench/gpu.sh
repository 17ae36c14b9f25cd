#!/bin/sh
# What a machine with a GPU has to show, in one go: the tests of the kernels, the ladders of matrix products, the suite, and PyTorch on the same
# work where there is one. Run it in the root of the repository:
#
#   bench/gpu.sh OUT [BIN]
#
# OUT gets the logs and reports. BIN is a folder with programs built elsewhere (wgrad, wgrad-bench, and the tests `ops` and `golden`); without
# it they are built here.
set -u
[ $# -ge 1 ] || { echo "usage: bench/gpu.sh OUT [BIN]" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}" WGRAD_TEST_DEVICE=gpu

if [ $# -ge 2 ]; then
    bin=$(cd "$2" && pwd)
    run_test() { test=$1; shift; (cd tests && "$bin/$test" "$@"); }
else
    cargo build --release --workspace || exit 1
    bin=$PWD/target/release
    run_test() { test=$1; shift; cargo test --release -p wgrad-tests --test "$test" -- "$@"; }
fi

begun=$(date +%s)
say() { printf '\n== %s s: %s\n' "$(($(date +%s) - begun))" "$*"; }
# A part that hangs must not keep the others from running.
within() { seconds=$1; shift; timeout "$seconds" "$@"; }

say "Device"
within 30 "$bin/wgrad" devices
# Without a GPU there is nothing to show.
within 60 "$bin/wgrad-bench" run copy n=4 iters=1 warmup=0 limits=0 device=gpu || exit 1

say "Ladders of matrix products"
for dtype in f32 f16; do
    RUST_LOG=wgrad=info within 60 "$bin/wgrad-bench" ladder matmul m=4096 n=4096 k=4096 "dtype=$dtype" device=gpu \
        check=0 limits=0 batch=3 iters=5 --out "$out/ladder-$dtype.json"
done

say "Suite"
within 240 "$bin/wgrad-bench" suite --device gpu --out "$out/suite.json" check="${CHECK:-0}"

say "Attention of halves without matrix units"
for width in 64 128; do
    for workload in attention attention_bwd; do
        WGRAD_MATRIX_UNITS=0 within 30 "$bin/wgrad-bench" run "$workload" b=4 h=8 l=4096 "dh=$width" dtype=f16 device=gpu \
            check=0 limits=0 batch=2 iters=5 | tee -a "$out/without-units.jsonl"
    done
done

if python3 -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    say "PyTorch"
    grep -Ev 'topk|varlen|lm_|linear_attention|form=packed|view=|wait=0' bench/lists/gpu.txt | sed 's/form=dense//' >"$out/torch.txt"
    within 240 python3 bench/peers/torch_bench.py torch list "$out/torch.txt" device=gpu >"$out/torch.jsonl"
fi

for test in ops golden; do
    say "Tests: $test"
    run_test "$test" >"$out/$test.log" 2>&1
    grep -E '^test result|FAILED|panicked at|GPU under test' "$out/$test.log"
done
say "Done"
