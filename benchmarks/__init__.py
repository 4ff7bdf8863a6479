"""Measures how many calls a core carries: this server and Pipecat used the usual way, under the same load.

`python -m benchmarks --help` lists what can be measured; `make bench` measures all of it and writes
docs/performance.md.
"""
