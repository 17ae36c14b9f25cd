"""Whether transformers reads what wgrad saves: every model is read by wgrad and written anew, then both folders are loaded with transformers,
whose weights and outputs must be equal. Needs torch and transformers, which the test suite does not.

    cargo build --release --workspace --example convert
    python tests/roundtrip.py target/release/examples/convert tests/fixtures/models/*
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file


def outputs(model, inputs):
    torch.manual_seed(0)  # masked autoencoders draw what they hide
    with torch.no_grad():
        return [x.float() for x in model.eval()(**inputs).to_tuple() if torch.is_tensor(x)]


def main(convert, folders):
    failed = 0
    for folder in map(pathlib.Path, folders):
        architecture = getattr(transformers, json.loads((folder / "config.json").read_text())["architectures"][0])
        case = json.loads((folder / "case.json").read_text())
        tensors = load_file(folder / "case.safetensors")
        inputs = {name: tensors[x["key"]] for name, x in case["inputs"].items() if isinstance(x, dict) and "key" in x}
        with tempfile.TemporaryDirectory() as parent:
            copy = pathlib.Path(parent) / "copy"
            subprocess.run([convert, folder, copy], check=True)
            ours, info = architecture.from_pretrained(copy, output_loading_info=True)
        theirs = architecture.from_pretrained(folder)
        pairs = list(zip(outputs(theirs, inputs), outputs(ours, inputs), strict=True))
        worst = max((a - b).abs().max().item() for a, b in pairs)
        surplus = sorted(info["unexpected_keys"])
        missing = sorted(key for key in info["missing_keys"] if not key.endswith("num_batches_tracked"))
        failed += worst != 0.0 or bool(surplus)
        print(f"{folder.name}: outputs differ by {worst}, missing {missing}, surplus {surplus}")
    return 1 if failed else 0


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    sys.exit(main(sys.argv[1], sys.argv[2:]))
