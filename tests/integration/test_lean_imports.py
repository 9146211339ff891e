"""`glimpse.lean_imports` in a process of its own, as a decoder's replica is."""

import subprocess
import sys
from hashlib import sha256

import numpy as np
import torch

from config.settings import ROOT
from glimpse.decoders import TinyVAE
from glimpse.families.source import ModelSource
from tests.integration.conftest import MODEL

DECODER = f"""
import sys
from hashlib import sha256
import numpy as np
import torch
from glimpse.decoders import FullVAE, TinyVAE
from glimpse.families.source import ModelSource
from glimpse.lean_imports import lean_imports
torch.set_num_threads(1)
torch.set_grad_enabled(False)
def source(path):
    return ModelSource(path, None, None, torch.float32, torch.device("cpu"))
with lean_imports():
    tiny = TinyVAE(source("{MODEL}/vae_tiny"), channels_last=False)
    full = FullVAE(source("{MODEL}"), channels_last=False)
latents = np.linspace(-2, 2, 4 * 8 * 8, dtype=np.float32).reshape(4, 8, 8)
full.encode(np.asarray(full.decode([latents])[0]))
assert not {{"transformers", "torch._dynamo"}} & sys.modules.keys()
print(sha256(np.asarray(tiny.decode([latents])[0]).tobytes()).hexdigest())
assert torch.compile(lambda x: 2 * x, backend="eager")(torch.ones(1)) == 2
import transformers.models.clip
"""


def test_a_decoder_loads_neither_transformers_nor_the_compiler_and_spoils_neither() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DECODER], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0, done.stderr
    source = ModelSource(f"{MODEL}/vae_tiny", None, None, torch.float32, torch.device("cpu"))
    latents = np.linspace(-2, 2, 4 * 8 * 8, dtype=np.float32).reshape(4, 8, 8)
    with torch.no_grad():
        decoded = TinyVAE(source, channels_last=False).decode([latents])[0]
    assert done.stdout.strip() == sha256(np.asarray(decoded).tobytes()).hexdigest()
