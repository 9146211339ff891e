"""How soon an input that cannot be served is refused."""

import json
import time
from dataclasses import dataclass

import httpx

from benchmarks.samples import Summary, summary
from benchmarks.server import Server

JSON = {"content-type": "application/json"}
REFUSED: dict[str, tuple[bytes, dict[str, str]]] = {
    "no prompt": (b"{}", JSON),
    "a value out of range": (b'{"prompt": "x", "num_inference_steps": 101}', JSON),
    "an unknown field": (b'{"prompt": "x", "num_inference_step": 4}', JSON),
    "NaN": (b'{"prompt": "x", "guidance_scale": NaN}', JSON),
    "a key that is a lone surrogate": (b'{"prompt": "x", "\\ud800": 1}', JSON),
    "20,000 unknown fields": (
        json.dumps({"prompt": "x"} | {f"preview_qualit{n}": n for n in range(20_000)}).encode(),
        JSON,
    ),
    "no picture in image_url": (
        b'{"prompt": "x", "image_url": "data:image/png;base64,AAAA"}',
        JSON,
    ),
    "another content type": (b'{"prompt": "x"}', {"content-type": "text/plain"}),
    "17 MB": (b'{"prompt": "' + b"x" * 17_000_000 + b'"}', JSON),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """Seconds, over all kinds of input; and the kind that took longest, in its median."""

    all: Summary
    slowest: str
    slowest_s: float


def measure(server: Server, repetitions: int = 20) -> Figure:
    seconds: dict[str, list[float]] = {name: [] for name in REFUSED}
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for _ in range(repetitions):
            for name, (content, headers) in REFUSED.items():
                began = time.perf_counter()
                answer = client.post("/stream", content=content, headers=headers)
                seconds[name].append(time.perf_counter() - began)
                if not 400 <= answer.status_code < 500:
                    raise RuntimeError(f"{name} is answered with {answer.status_code}")
    medians = {name: summary(each).p50 for name, each in seconds.items()}
    slowest = max(medians, key=lambda name: medians[name])
    return Figure(
        summary([each for several in seconds.values() for each in several]),
        slowest,
        medians[slowest],
    )
