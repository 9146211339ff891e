"""The servers that Glimpse is compared with. Each runs in a virtual environment of its own, which
`benchmarks.environments` makes."""
