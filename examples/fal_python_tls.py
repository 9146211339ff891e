"""fal's unmodified Python client, with nothing but its environment. It speaks https and wss alone.

make tls-dev && make serve CONFIG=config/profiles/tls.yaml
export FAL_KEY=any FAL_RUN_HOST=localhost:8443 SSL_CERT_FILE=.tls/cert.pem
python examples/fal_python_tls.py
"""

import fal_client

APP = "glimpse/miniature"

final = fal_client.run(APP, {"prompt": "a windmill on green hills", "seed": 7})
print("run:", final["image"]["width"], "x", final["image"]["height"])

for event in fal_client.stream(APP, {"prompt": "a windmill on green hills", "seed": 7}):
    print("stream:", event["type"], event["step"], "of", event["steps"])

# use_jwt=False: the default asks rest.fal.ai for a token, and no environment variable changes that.
with fal_client.realtime(APP, use_jwt=False) as connection:
    for seed in range(3):
        connection.send({"prompt": "a red balloon over the sea", "seed": seed})
        result = connection.recv()
        print("realtime:", len(result["image"]["content"]), "bytes of", seed)
