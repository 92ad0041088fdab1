"""llama.cpp's HTTP server for one GGUF file, until it is told to end. Runs in `.seams/llama`.

python serve_llama.py MODEL.gguf NAME PORT
"""

import signal
import sys

import xllamacpp

path, name, port = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path = path
params.model_alias = {name}
params.hostnames = ["127.0.0.1"]
params.port = int(port)
params.n_ctx = 4096
params.n_parallel = 1
params.cpuparams.n_threads = 1
params.cpuparams_batch.n_threads = 1
params.warmup = False
server = xllamacpp.Server(params)
signal.sigwait({signal.SIGTERM, signal.SIGINT})
