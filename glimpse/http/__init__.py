"""The ASGI app. It takes ports, not handles, and runs without Ray."""
