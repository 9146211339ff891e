"""Streams a picture with fal's unmodified client and saves its previews and the final in a row.

python examples/preview_row.py "a red lighthouse by the sea at sunset" row.png --seed 7
"""

import argparse
import base64
import io

import fal_client
from PIL import Image

GAP = 8  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("prompt")
    parser.add_argument("out")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--url", default="http://localhost:8000")
    options = parser.parse_args()

    fal_client.client.RUN_URL_FORMAT = options.url + "/"
    client = fal_client.SyncClient(key="any")
    wanted = {"prompt": options.prompt, "seed": options.seed, "output_format": "png"}
    pictures = []
    for event in client.stream("glimpse/miniature", wanted):
        if "error" in event:
            raise SystemExit(event["error"]["message"])
        print(event["type"], event["step"], "of", event["steps"])
        pictures.append(
            Image.open(io.BytesIO(base64.b64decode(event["image"]["url"].split(",")[1])))
        )

    width, height = pictures[-1].size
    row = Image.new("RGB", ((width + GAP) * len(pictures) - GAP, height), "white")
    for index, picture in enumerate(pictures):
        row.paste(picture, (index * (width + GAP), 0))
    row.save(options.out)


if __name__ == "__main__":
    main()
