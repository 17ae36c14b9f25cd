#!/usr/bin/env python3
"""The workloads of wgrad-bench in PyTorch: torch_bench.py torch WORKLOAD key=value... [iters=N] [warmup=N]
[device=cpu|gpu] [compile=1] prints one line of JSON. `wgrad-bench versus` runs it beside ours. In place of the workload,
`list FILE [key=value...]` runs each line of a file of workloads in one process, and prints one line of JSON for each."""

import contextlib
import itertools
import json
import statistics
import sys
import time

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


class Args:
    def __init__(self, words):
        for word in words:
            if "=" not in word:
                sys.exit(f"error: expected key=value, got {word}")
        self.given = dict(word.split("=", 1) for word in words)
        self.used = set()

    def word(self, key, default):
        self.used.add(key)
        return self.given.get(key, default)

    def number(self, key, default):
        return int(self.word(key, default))

    def all_used(self):
        """Takes no key in silence: a comparison must be of the same work."""
        left = set(self.given) - self.used
        if left:
            sys.exit(f"error: this workload takes no key {sorted(left)[0]} here")


class Block(torch.nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.h = h
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(d) for _ in range(2))
        self.query, self.key, self.value, self.output = (torch.nn.Linear(d, d) for _ in range(4))
        self.up, self.down = torch.nn.Linear(d, 4 * d), torch.nn.Linear(4 * d, d)

    def forward(self, x):
        b, l, d = x.shape
        y = self.norms[0](x)
        q, k, v = (f(y).view(b, l, self.h, d // self.h).transpose(1, 2) for f in (self.query, self.key, self.value))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, l, d)
        x = x + self.output(y)
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


class Mlm(torch.nn.Module):
    """Pre-norm encoder, four times the width inside, GELU, no dropout."""

    def __init__(self, l, d, h, layers, vocab):
        super().__init__()
        self.tokens, self.positions = torch.nn.Embedding(vocab, d), torch.nn.Embedding(l, d)
        self.blocks = torch.nn.Sequential(*(Block(d, h) for _ in range(layers)))
        self.head = torch.nn.Linear(d, vocab)

    def forward(self, ids):
        places = torch.arange(ids.shape[1], device=ids.device)
        return self.head(self.blocks(self.tokens(ids) + self.positions(places)))


def prepare(workload, args, device):
    """A function that runs the workload once."""
    base = workload.removesuffix("_bwd")
    backward = workload != base
    compiled = torch.compile if args.number("compile", 0) else lambda f: f
    dtype = DTYPES[args.word("dtype", "f32")]

    def normal(*shape):
        return torch.randn(*shape, device=device, dtype=dtype)

    def numbers(bound, *shape):
        return torch.randint(0, bound, shape, device=device)

    def differentiated(function, leaves, dy=None):
        """Forward, or forward and backward to the leaves."""
        function = compiled(function)
        if not backward:
            def run():
                with torch.no_grad():
                    function(*leaves)
            return run
        leaves = [leaf.requires_grad_() for leaf in leaves]

        def run():
            y = function(*leaves)
            torch.autograd.grad(y if dy is None else (y * dy).sum(), leaves)
        return run

    if base == "matmul":
        b, m, n, k = (args.number(key, default) for key, default in (("b", 1), ("m", 512), ("n", 512), ("k", 512)))
        return differentiated(torch.matmul, [normal(b, m, k), normal(b, k, n)])
    if base == "softmax":
        x = normal(args.number("rows", 4096), args.number("d", 1024))
        return differentiated(lambda x: F.softmax(x, -1), [x])
    if base in ("layer_norm", "rms_norm"):
        rows, d = args.number("rows", 4096), args.number("d", 768)
        dy = normal(rows, d)
        if base == "layer_norm":
            leaves = [normal(rows, d), normal(d), normal(d)]
            return differentiated(lambda x, gain, bias: F.layer_norm(x, (d,), gain, bias, 1e-5), leaves, dy)
        return differentiated(lambda x, gain: F.rms_norm(x, (d,), gain, 1e-5), [normal(rows, d), normal(d)], dy)
    if base == "cross_entropy":
        rows, vocab = args.number("rows", 1024), args.number("vocab", 8192)
        targets = numbers(vocab, rows)
        return differentiated(lambda x: F.cross_entropy(x, targets), [normal(rows, vocab)])
    if base == "attention":
        shape = [args.number(key, default) for key, default in (("b", 1), ("h", 8), ("l", 512), ("dh", 64))]
        causal, backend = bool(args.number("causal", 0)), args.word("backend", None)
        backends = {"flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION, "math": SDPBackend.MATH}

        def attention(q, k, v):
            with sdpa_kernel(backends[backend]) if backend else contextlib.nullcontext():
                return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return differentiated(attention, [normal(*shape) for _ in range(3)], normal(*shape))
    if base == "sparse_attention":
        # FlexAttention, which is made for it; block masks come from a table of blocks.
        b, h, l, dh = (args.number(key, default) for key, default in (("b", 1), ("h", 2), ("l", 4096), ("dh", 64)))
        block, density = args.number("block", 64), float(args.word("density", "0.25"))
        blocks = l // block
        kept = max(1, round(density * blocks))
        table = torch.zeros(blocks, blocks, dtype=torch.bool, device=device)
        table.scatter_(1, torch.rand(blocks, blocks, device=device).argsort(1)[:, :kept], True)
        seen = lambda b, h, i, j: table[i // block, j // block]
        mask = create_block_mask(seen, None, None, l, l, device=device, BLOCK_SIZE=max(block, 128))
        attention = torch.compile(flex_attention)
        shape = [b, h, l, dh]
        return differentiated(lambda q, k, v: attention(q, k, v, block_mask=mask), [normal(*shape) for _ in range(3)], normal(*shape))
    if base == "sparse24":
        # The dense product: PyTorch's own 2:4 kernels take no vectors.
        if args.word("form", "dense") != "dense":
            sys.exit("error: torch has only the dense product here: form=dense")
        m, n, k = (args.number(key, default) for key, default in (("m", 4096), ("n", 1), ("k", 4096)))
        rotate = args.number("rotate", 1)
        if backward and rotate != 1:
            sys.exit("error: the backward takes no rotate= here")
        if rotate == 1:
            return differentiated(torch.matmul, [normal(m, k), normal(k, n)])
        # In turn, so that no cache holds the one that comes next.
        turns, x = itertools.cycle([normal(m, k) for _ in range(rotate)]), normal(k, n)
        return lambda: torch.matmul(next(turns), x)
    if base == "decode":
        b, h, l, dh = (args.number(key, default) for key, default in (("b", 1), ("h", 8), ("l", 4096), ("dh", 64)))
        kvh = args.number("kvh", h)
        keys = [normal(b, kvh, l, dh) for _ in range(2)]
        attention = lambda q: F.scaled_dot_product_attention(q, *keys, enable_gqa=kvh != h)
        return differentiated(attention, [normal(b, h, 1, dh)], normal(b, h, 1, dh))
    if base == "elementwise":
        n, op = args.number("n", 1 << 22), args.word("op", "add")
        width = 1024 if op == "bias_gelu" else n
        x, other, dy = normal(n // width, width), normal(1, width), normal(n // width, width)
        if op == "gelu":
            return differentiated(F.gelu, [x], dy)
        function = {"add": torch.add, "bias_gelu": lambda x, y: F.gelu(x + y)}[op]
        return differentiated(function, [x, other], dy)
    if base == "reduce":
        n, over = args.number("n", 1 << 22), args.word("over", "all")
        width = n if over == "all" else int(n**0.5)
        dims = {"all": (0, 1), "rows": (1,), "columns": (0,)}[over]
        return differentiated(lambda x: x.sum(dims), [normal(n // width, width)])
    if base == "embedding":
        vocab, d, n = args.number("vocab", 8192), args.number("d", 256), args.number("n", 4096)
        ids, dy = numbers(vocab, n), normal(n, d)
        return differentiated(lambda table: F.embedding(ids, table), [normal(vocab, d)], dy)
    if base == "copy":
        return differentiated(torch.clone, [normal(args.number("n", 1 << 22))])
    if base == "fill":
        n = args.number("n", 1 << 22)
        return lambda: torch.full((n,), 1.5, device=device)
    if base == "adamw":
        param = torch.nn.Parameter(normal(args.number("n", 1 << 22)))
        param.grad = normal(*param.shape)
        return torch.optim.AdamW([param], lr=1e-3, fused=True).step
    if base == "dispatch":
        n, x = args.number("n", 1000), torch.zeros(256, device=device)
        if args.number("wait", 1) != 1:
            sys.exit("error: torch's dispatch has no wait=0: its steps are waited for")

        def run():
            y = x
            for _ in range(n):
                y = y + 1.0
        return run
    if base == "mlm_step":
        b, l, d = args.number("b", 8), args.number("l", 128), args.number("d", 256)
        h, layers, vocab = args.number("h", 4), args.number("layers", 4), args.number("vocab", 8192)
        model = Mlm(l, d, h, layers, vocab).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        forward = compiled(model)
        ids, targets = numbers(vocab, b, l), numbers(vocab, b * l)
        mixed = torch.autocast(device.type, dtype) if dtype != torch.float32 else contextlib.nullcontext()

        def run():
            with mixed:
                loss = F.cross_entropy(forward(ids).view(b * l, vocab), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        return run
    sys.exit(f"error: torch has no workload {workload} here")


def measure(workload, words):
    """The record of one workload."""
    args = Args(words)
    iters, warmup, batch = args.number("iters", 10), args.number("warmup", 3), args.number("batch", 1)
    kind = args.word("device", "gpu" if torch.cuda.is_available() or torch.backends.mps.is_available() else "cpu")
    gpu = "cuda" if torch.cuda.is_available() else "mps"
    device = torch.device({"cpu": "cpu", "gpu": gpu}[kind])
    wait = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(device.type, lambda: None)
    # Products of f32 in f32, as in the other engines; tf32=1 allows the shorter format.
    torch.backends.cuda.matmul.allow_tf32 = bool(args.number("tf32", 0))
    step = prepare(workload, args, device)
    args.all_used()
    for _ in range(warmup):
        step()
    times = []
    for _ in range(iters):
        wait()
        begun = time.perf_counter()
        for _ in range(batch):
            step()
        wait()
        times.append((time.perf_counter() - begun) * 1e3 / batch)
    params = {key: value for key, value in args.given.items() if key not in ("iters", "warmup", "batch", "device")}
    name = torch.cuda.get_device_name() if device.type == "cuda" else device.type
    return {
        "engine": "torch", "workload": workload, "params": params, "device": name, "iters": iters,
        "median_ms": statistics.median(times), "min_ms": min(times), "max_ms": max(times),
    }


def main():
    words = sys.argv[2:]
    if sys.argv[1:2] != ["torch"] or not words:
        sys.exit("error: usage: torch_bench.py torch WORKLOAD key=value... [iters=N] [warmup=N] [device=cpu|gpu]")
    if words[0] != "list":
        print(json.dumps(measure(words[0], words[1:])))
        return
    with open(words[1]) as file:
        lines = [line.split("#")[0].split() for line in file]
    for line in filter(None, lines):
        # Keys of the list, not of the workload.
        keys = [word for word in line[1:] if word.split("=")[0] not in ("against", "target")] + words[2:]
        try:
            print(json.dumps(measure(line[0], keys)), flush=True)
        except (SystemExit, RuntimeError) as why:
            print(f"{' '.join(line)}: {why}", file=sys.stderr)
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
